"""One namespace of one client: gateways.base.Socket, as its handler sees it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from smart_router.gateways.base import CloseReason, SocketHandler
from smart_router.protocols.socketio import acknowledgement_prefix, event_prefix

if TYPE_CHECKING:
    from smart_router.gateways.request import HttpRequest
    from smart_router.gateways.socketio import SocketIOConnection

__all__ = ["Names", "NamespaceSocket"]

_encode: Final = msgspec.json.Encoder().encode
_RESTART: Final = 1012
_MAX_NAMES: Final = 1024
_MAX_CACHED: Final = 128  # characters of a name that is remembered


class Names:
    """Event names as they begin a packet's array: `"talk",`, and those heard as `["talk"`.

    Bounded: when full, again.
    """

    __slots__ = ("_heard", "heard", "known")

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self._heard: dict[bytes, str] = {}
        self.heard: Callable[[bytes], str | None] = self._heard.get
        """The name of an event whose array begins so; None: not heard before."""

    def learn(self, name: str, array: bytes) -> None:
        """`name` was decoded from `array`: so one that begins alike has the same name."""
        head = array[: array.find(b",")]
        if head not in self._heard and len(name) <= _MAX_CACHED and head == b"[" + self.get(name)[:-1]:
            if len(self._heard) >= _MAX_NAMES:
                self._heard.clear()
            self._heard[head] = name

    def get(self, name: str) -> bytes:
        encoded = self.known.get(name)
        return encoded if encoded is not None else self._encode(name)

    def _encode(self, name: str) -> bytes:
        encoded = _encode(name) + b","
        if len(name) <= _MAX_CACHED:
            if len(self.known) >= _MAX_NAMES:
                self.known.clear()
            self.known[name] = encoded
        return encoded


class NamespaceSocket:
    """`connection` is None once the namespace is left; every call then does nothing, and there is no `handler`."""

    __slots__ = (
        "_names",
        "_prefix",
        "connection",
        "handler",
        "id",
        "namespace",
        "packet_head",
        "pid",
        "request",
        "unproven",
    )

    __deletable__ = ("handler",)  # mypyc asks for it

    handler: SocketHandler

    def __init__(self, connection: SocketIOConnection, namespace: str, names: Names) -> None:
        self.connection: SocketIOConnection | None = connection
        self.namespace = namespace
        self.request: HttpRequest = connection.request
        self.id = secrets.token_urlsafe(15)
        self.pid: str | None = None
        self.unproven = False  # has delivered since the last ping
        self._names = names
        self.packet_head = event_prefix(namespace)
        self._prefix = self.packet_head + b"["

    def give_up_handler(self) -> SocketHandler:
        """For its last call. The two hold each other: together they would wait for the garbage collector."""
        handler = self.handler
        del self.handler
        return handler

    @property
    def authorization(self) -> bytes | None:
        return self.connection.authorization if self.connection is not None else None

    @property
    def ping_interval(self) -> float:
        return self.connection.ping_interval if self.connection is not None else 0.0

    def deliver(
        self, type_: str, body: bytes, attachments: tuple[bytes, ...], ack_id: int | None, offset: str | None
    ) -> None:
        connection = self.connection
        if connection is None:
            return
        if not self.unproven:
            self.unproven = True
            connection.unproven.append(self)
        end = b"]" if offset is None else b",%b]" % _encode(offset)
        if ack_id is None and not attachments:
            packet = self._prefix + (self._names.known.get(type_) or self._names.get(type_)) + body + end
            if connection.websocket is not None:
                connection.websocket.send_text(packet)
            else:
                connection.write(packet)
        else:
            self._write(connection, self._names.get(type_) + body + end, attachments, ack_id)

    def _write(
        self, connection: SocketIOConnection, rest: bytes, attachments: tuple[bytes, ...], ack_id: int | None
    ) -> None:
        prefix = event_prefix(self.namespace, len(attachments))
        connection.write(prefix, b"[" if ack_id is None else b"%d[" % ack_id, rest)
        for attachment in attachments:
            connection.write_binary(attachment)

    def emit(self, name: str, args: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        connection = self.connection
        if connection is not None:
            head = self._names.get(name)
            rest = b"%b%b]" % (head, args) if args else head[:-1] + b"]"
            self._write(connection, rest, attachments, None)

    def hello(self, ack: str, recovered: bool) -> None:
        """Socket.IO clients learn of a recovery from their own `recovered`, and of the mode from nobody."""
        self.emit("hello", b"{}")

    def acknowledge(self, ack_id: int, args: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        connection = self.connection
        if connection is not None:
            connection.write(acknowledgement_prefix(self.namespace, len(attachments)), b"%d[%b]" % (ack_id, args))
            for attachment in attachments:
                connection.write_binary(attachment)

    def barrier(self) -> None:
        if self.connection is not None and not self.connection.ping_awaited:
            self.connection.ping()

    def pause_reading(self) -> None:
        if self.connection is not None:
            self.connection.pause_reading()

    def resume_reading(self) -> None:
        if self.connection is not None:
            self.connection.resume_reading()

    def close(self, reason: CloseReason) -> None:
        connection = self.connection
        if connection is None:
            return
        if reason.comes_back:
            connection.end(reason.text, _RESTART, abort=reason is CloseReason.LOST)
        else:
            connection.leave(self)
