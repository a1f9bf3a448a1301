"""The handler interface: what a gateway asks of whoever serves its sockets, and what it offers them.

    bytes ─► protocol ─► gateway ─► SocketHandler.event / acknowledgement / confirm / closed
                            ▲
                            └── Socket.emit / deliver / acknowledge / close ◄── the handler

`gateways/actors.py` implements it on core; examples/conformance implements it by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import msgspec

from smart_router.protocols.socketio import ConnectData

if TYPE_CHECKING:
    from smart_router.gateways.request import HttpRequest

__all__ = ["Application", "BinaryApplication", "BinarySocket", "CloseReason", "Socket", "SocketHandler"]


class CloseReason(Enum):
    """Why we end a socket.

    `comes_back`: the client should connect again, so its transport is cut without a DISCONNECT.
    """

    DRAIN = ("the server is going down", True)
    LOST = ("the connection does not answer", True)
    TAKEN_OVER = ("another connection has taken this session over", True)
    EXPIRED = ("the token has expired", False)
    REVOKED = ("access was withdrawn", False)

    def __init__(self, text: str, comes_back: bool) -> None:
        self.text = text
        self.comes_back = comes_back


class Socket(Protocol):
    """One logical connection: a namespace of a Socket.IO client, or a whole plain WebSocket.

    `id`: its sid; a handler that recovers a session sets the old one inside `Application.connect`. `pid`: None, or the
    private id offered for recovery, set there too. `authorization`: that header of the connection's first request.
    Calls on a socket that is gone do nothing.
    """

    id: str
    pid: str | None
    namespace: str

    @property
    def request(self) -> HttpRequest: ...

    @property
    def authorization(self) -> bytes | None: ...

    def emit(self, name: str, args: bytes) -> None:
        """An event; `args`: the arguments as JSON, joined by commas, without the brackets; `b""` for none."""

    def deliver(
        self, type_: str, body: bytes, attachments: tuple[bytes, ...], ack_id: int | None, offset: str | None
    ) -> None:
        """A message as an event named after its type. `ack_id`: an answer is asked for. `offset`: follows the body."""

    def hello(self, ack: str, recovered: bool) -> None:
        """The actor's mailboxes are subscribed; `ack`: the endpoint's mode, `recovered`: it goes on where it was."""

    def acknowledge(self, ack_id: int, args: bytes) -> None:
        """Answers an event that asked for it; `args` as in `emit`."""

    def barrier(self) -> None:
        """Sends a ping now, unless one is on its way; the answer comes to `confirm`."""

    @property
    def ping_interval(self) -> float:
        """Seconds within which its client answers a ping, as long as it is there."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, reason: CloseReason) -> None: ...


class BinarySocket(Socket, Protocol):
    """A socket on which all that we send may carry attachments: Socket.IO's. `args` holds their placeholders."""

    def emit(self, name: str, args: bytes, attachments: tuple[bytes, ...] = ()) -> None: ...

    def acknowledge(self, ack_id: int, args: bytes, attachments: tuple[bytes, ...] = ()) -> None: ...


class SocketHandler(Protocol):
    """Serves one socket. Called from the event loop, never after `closed`."""

    def opened(self) -> None:
        """The answer to CONNECT has been written; what is emitted now is the next packet."""

    def event(
        self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None
    ) -> None: ...

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        """An event whose only argument seems to be `raw`, white space included: of checked depth and UTF-8, not parsed.

        False: not taken; it comes again as `event`, or the connection ends if it is no JSON.
        """

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        """The client answered a delivery or event of ours."""

    def mark(self) -> int:
        """The number of the last delivery written that waits for confirmation; 0: none. Asked when a ping goes out."""

    def confirm(self, mark: int) -> None:
        """The client has everything up to `mark`: it answered a ping sent after it, or said so."""

    def heartbeat(self) -> None:
        """The client has answered a ping, or said otherwise that it is there."""

    def writable(self, ok: bool) -> None:
        """The transport's buffer is too full (False), or has room again."""

    def closed(self, by_client: bool) -> None:
        """Gone, once. `by_client`: it said goodbye (DISCONNECT), so there is nothing to recover."""


class Application(Protocol):
    """What a gateway serves."""

    def prepare(self, socket: Socket, auth: ConnectData) -> Awaitable[None] | None:
        """What is to be awaited before `connect`; None: nothing. Raises nothing that `connect` would not."""

    def connect(self, socket: Socket, auth: ConnectData) -> SocketHandler:
        """A client opens `socket.namespace`. Raises Refused: it gets a CONNECT_ERROR."""


class BinaryApplication(Protocol):
    """What a Socket.IO gateway serves: an Application, or one that needs attachments on all that it sends."""

    def prepare(self, socket: BinarySocket, auth: ConnectData) -> Awaitable[None] | None:
        """As Application's."""

    def connect(self, socket: BinarySocket, auth: ConnectData) -> SocketHandler:
        """As Application's."""
