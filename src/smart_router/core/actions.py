"""What a route's action sees: the message, the session it came from, the router; and `publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_router.brokers.base import Entry
from smart_router.core.endpoints import Target
from smart_router.errors import Refused
from smart_router.message import NO_OPTIONS, Envelope, Message, Options, wants_of

if TYPE_CHECKING:
    from smart_router.core.router import Router
    from smart_router.core.sessions import Session

__all__ = ["Context", "IncomingMessage", "rest_of"]

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class IncomingMessage:
    """A message on its way through a route. `ids` and `options` are decoded; `metadata` and `payload` on first use."""

    __slots__ = ("_context", "_fields")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fields: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        return self._context.id

    @property
    def at(self) -> int:
        """ms since 1970 UTC."""
        return self._context.at

    @property
    def sender(self) -> str:
        return self._context.session.actor

    @property
    def type(self) -> str:
        return self._context.type

    @property
    def ids(self) -> dict[str, Any]:
        return self._context.envelope.ids

    @property
    def options(self) -> Options:
        return self._context.envelope.options

    @property
    def attachments(self) -> tuple[bytes, ...]:
        return self._context.attachments

    @property
    def metadata(self) -> Any:
        return self.fields.get("metadata", {})

    @property
    def payload(self) -> Any:
        return self.fields.get("payload")

    @property
    def fields(self) -> dict[str, Any]:
        """All of the sender's keys, decoded."""
        if self._fields is None:
            self._fields = _decode_object(b"{" + self._context.rest)
        return self._fields


class Context:
    """One message in one action. What it publishes goes out together when the action returns; nothing, if it raises.

    `rest`: the sender's object without its opening brace and without keys that are the router's.
    """

    __slots__ = (
        "_counts", "_message", "at", "at_json", "attachments", "entries", "envelope", "id", "rest", "router", "session",
        "type",
    )  # fmt: skip

    def __init__(self, router: Router, session: Session, type_: str, envelope: Envelope, rest: bytes) -> None:
        ids = router.ids
        self.router = router
        self.session = session
        self.type = type_
        self.envelope = envelope
        self.rest = rest
        self.id = ids.new()
        self.at = ids.at
        self.at_json = ids.at_json
        self.attachments: tuple[bytes, ...] = ()
        self.entries: list[Entry] = []
        self._message: IncomingMessage | None = None
        self._counts: dict[tuple[str, str], int] | None = None

    @property
    def message(self) -> IncomingMessage:
        if self._message is None:
            self._message = IncomingMessage(self)
        return self._message

    def publish(
        self, address: str | Sequence[str], type: str | None = None, message: Mapping[str, Any] | None = None
    ) -> None:
        """Puts the message, or another one, into a mailbox; `type` and `message` as they came, if not given.

        `message`: an object as a sender would send it (`ids`, `metadata`, `payload`, own keys). Raises Refused when
        `address` is no address, its endpoint is unknown or gives it no mailbox, or the message is too large for it.
        """
        if not isinstance(address, str) and isinstance(address, (list, tuple, set, frozenset)):
            for each in address:
                self.publish(each, type, message)
            return
        target = self.router.endpoints.target(address)
        type_ = self.type if type is None else type
        rest = self.rest if message is None else rest_of(_encode(message))
        id_ = self.id if not self.entries else self._suffixed(target.address, type_)
        self._add(target, type_, id_, rest)

    def _add(self, target: Target, type_: str, id_: str, rest: bytes) -> None:
        endpoint = target.endpoint
        options = self.envelope.options
        size = len(rest) + 1
        if self.attachments:
            size += sum(map(len, self.attachments))
        if size > endpoint.max_message_size:
            raise _too_large(target)
        body = b'{"id":"' + id_.encode() + self.session.from_part + self.at_json + rest
        if options is NO_OPTIONS:
            expires_at = self.at + endpoint.ttl_ms if endpoint.ttl_ms else 0
            message = Message(id_, self.session.actor, self.at, type_, body, self.attachments, 4, expires_at)
        else:
            ttl = endpoint.ttl_ms if options.ttl is None else int(options.ttl * 1000)
            message = Message(
                id_,
                self.session.actor,
                self.at,
                type_,
                body,
                self.attachments,
                4 if options.priority is None else options.priority,
                self.at + ttl if ttl else 0,
                options.supersede,
                options.id,
                wants_of(options),
                self.router.replies.node if options.reply is not None else None,
            )
        self.entries.append(Entry(message, target.address, target.policy))

    def _suffixed(self, address: str, type_: str) -> str:
        """A second publish of the same type to the same address gets id + `.1`, and so on."""
        counts = self._counts
        if counts is None:
            counts = self._counts = {}
            for entry in self.entries:
                counts[entry.address, entry.message.type] = 1
        number = counts.get((address, type_), 0)
        counts[address, type_] = number + 1
        return f"{self.id}.{number}" if number else self.id


def _too_large(target: Target) -> Refused:
    limit = target.endpoint.max_message_size
    return Refused(
        "too_large",
        f"The message is too large for {target.address!r}: the limit is {limit} bytes. Send several smaller ones.",
        limit=limit,
        address=target.address,
    )


def rest_of(raw: bytes) -> bytes:
    """A message object without its opening brace and without the keys that are the router's."""
    fields = _decode_raw(raw)
    for own in ("id", "from", "at", "redelivered"):
        fields.pop(own, None)
    fields.setdefault("ids", msgspec.Raw(b"{}"))
    return _encode(fields)[1:]
