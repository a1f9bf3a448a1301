"""What a route's action sees: the message, the session it came from, the router; and `publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_router.brokers.base import Entry
from smart_router.core.endpoints import Target
from smart_router.errors import Refused
from smart_router.message import Message, Options

if TYPE_CHECKING:
    from smart_router.core.router import Router
    from smart_router.core.sessions import Session

__all__ = ["Context", "Envelope", "IncomingMessage", "rest_of"]

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NO_OPTIONS: Final = Options()


class Envelope(msgspec.Struct, gc=False):
    """What of a message is decoded, once. `metadata`, `payload` and other keys stay bytes until an action looks at them.

    The last four are the router's own: what a sender put there is overwritten.
    """

    ids: dict[str, Any]
    options: Options = _NO_OPTIONS
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sender: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)
    at: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    redelivered: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def forged(self) -> bool:
        unset = msgspec.UNSET
        return not (self.id is unset and self.sender is unset and self.at is unset and self.redelivered is unset)


class IncomingMessage:
    """A message on its way through a route. `ids` and `options` are decoded; `metadata` and `payload` on first use."""

    __slots__ = ("_fields", "_rest", "at", "attachments", "envelope", "id", "options", "sender", "type")

    def __init__(  # noqa: PLR0913 (the hot path builds no object to hold them)
        self,
        id_: str,
        at: int,
        sender: str,
        type_: str,
        envelope: Envelope,
        rest: bytes,
        attachments: tuple[bytes, ...],
    ) -> None:
        self.id = id_
        self.at = at
        self.sender = sender
        self.type = type_
        self.envelope = envelope
        self.options = envelope.options
        self.attachments = attachments
        self._rest = rest
        self._fields: dict[str, Any] | None = None

    @property
    def ids(self) -> dict[str, Any]:
        return self.envelope.ids

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
            self._fields = _decode_object(b"{" + self._rest)
        return self._fields


class Context:
    """One message in one action. What it publishes goes out together when the action returns; nothing, if it raises."""

    __slots__ = ("_counts", "_router", "entries", "message", "rest", "session")

    def __init__(self, router: Router, session: Session, message: IncomingMessage, rest: bytes) -> None:
        self._router = router
        self.session = session
        self.message = message
        self.rest = rest
        self.entries: list[Entry] = []
        self._counts: dict[tuple[str, str], int] | None = None

    @property
    def router(self) -> Router:
        return self._router

    def publish(
        self, address: str | Sequence[str], type: str | None = None, message: Mapping[str, Any] | None = None
    ) -> None:
        """Puts the message, or another one, into a mailbox; `type` and `message` as they came, if not given.

        `message`: an object as a sender would send it (`ids`, `metadata`, `payload`, own keys). Raises Refused when
        `address` is no address, its endpoint is unknown or gives it no mailbox, or the message is too large for it.
        """
        if not isinstance(address, str):
            if not isinstance(address, (list, tuple, set, frozenset)):
                self._router.endpoints.target(address)
            for each in address:
                self.publish(each, type, message)
            return
        incoming = self.message
        target = self._router.endpoints.target(address)
        type_ = incoming.type if type is None else type
        rest = self.rest if message is None else rest_of(_encode(message))
        id_ = incoming.id if not self.entries else self._suffixed(address, type_)
        self._add(target, type_, id_, rest)

    def _add(self, target: Target, type_: str, id_: str, rest: bytes) -> None:
        incoming = self.message
        options = incoming.options
        settings = target.endpoint.settings
        size = len(rest) + 1
        if incoming.attachments:
            size += sum(map(len, incoming.attachments))
        if size > settings.max_message_size:
            limit = settings.max_message_size
            raise Refused(
                "too_large",
                f"The message is too large for {target.address!r}: the limit is {limit} bytes. Send several smaller ones.",
                limit=limit,
                address=target.address,
            )
        ttl = settings.ttl if options.ttl is None else options.ttl
        message = Message(
            id_,
            incoming.sender,
            incoming.at,
            type_,
            b'{"id":"' + id_.encode() + self.session.from_part + b"%d," % incoming.at + rest,
            incoming.attachments,
            4 if options.priority is None else options.priority,
            incoming.at + int(ttl * 1000) if ttl else 0,
            options.supersede,
            options.id,
        )
        self.entries.append(Entry(message, target.address, target.endpoint.policy))

    def _suffixed(self, address: str, type_: str) -> str:
        """A second publish of the same type to the same address gets id + `.1`, and so on."""
        counts = self._counts
        if counts is None:
            counts = self._counts = {}
            for entry in self.entries:
                counts[entry.address, entry.message.type] = 1
        number = counts.get((address, type_), 0)
        counts[address, type_] = number + 1
        return f"{self.message.id}.{number}" if number else self.message.id


def rest_of(raw: bytes) -> bytes:
    """A message object without its opening brace and without the keys that are the router's."""
    fields = _decode_raw(raw)
    for own in ("id", "from", "at", "redelivered"):
        fields.pop(own, None)
    fields.setdefault("ids", msgspec.Raw(b"{}"))
    return _encode(fields)[1:]
