"""What an application sends and receives: messages, their binary parts, and the answer to a send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from smart_router.client.dedup import Key
from smart_router.errors import ProtocolError
from smart_router.protocols.plain import Deliver

__all__ = ["Accepted", "Binary", "Message", "Receipt", "Reply", "encode_message"]

T = TypeVar("T")


class Accepted(NamedTuple):
    """The router's answer: the message is safe in every mailbox that its route published it to. `id`: the router's."""

    id: str
    status: str


class Reply(NamedTuple):
    """The recipient's answer to a request. `id`: of the request, the router's."""

    payload: Any
    sender: str
    id: str


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What has become of a message at one recipient (`options.receipt`).

    `status`: `queued`, `delivered`, `read`, or how it ended otherwise, with the `reason`. `at`: ms since 1970 UTC.
    """

    message: str
    to: str
    status: str
    reason: str
    at: int


class Binary:
    """Bytes anywhere in a payload: they travel beside it, and a Socket.IO client gets a buffer in their place."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _Options(msgspec.Struct, gc=False):
    id: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    id: str = ""
    sender: str = msgspec.field(name="from", default="")
    at: int = 0
    ids: dict[str, Any] = {}
    metadata: msgspec.Raw = msgspec.Raw(b"null")
    payload: msgspec.Raw = msgspec.Raw(b"null")
    options: _Options = msgspec.field(default_factory=_Options)
    redelivered: bool = False


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


class Message:
    """A message as it was received. What the sender put in is decoded when it is first looked at."""

    def __init__(
        self,
        deliver: Deliver,
        answer: Callable[[Message, str | None], None],
        epoch: int,
        reply: Callable[[Message, msgspec.Raw], Awaitable[None]],
    ) -> None:
        """`answer`, `reply`: take the application's. `epoch`: the connection it came on. ProtocolError: no message."""
        try:
            envelope = _decode_envelope(deliver.message)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ProtocolError("the server delivered something that is not a message") from error
        self.id = envelope.id
        """The router's id, the same in each repeat."""
        self.sender = envelope.sender
        """The actor that sent it; the router vouches for it."""
        self.at = envelope.at
        """When the router took it: ms since 1970 UTC."""
        self.type = deliver.type
        self.ids = envelope.ids
        self.redelivered = envelope.redelivered
        """It may have been delivered before, to another session maybe."""
        self.needs_ack = deliver.ack
        """The endpoint waits for `ack()` or `nack()`, else it delivers again."""
        self.attachments = deliver.attachments
        self.raw = bytes(deliver.message)
        """The whole message as JSON, with the keys that this class does not name."""
        self.offset = deliver.offset
        self.n = deliver.n
        self.epoch = epoch
        self.key = Key.of(envelope.sender, envelope.options.id, deliver.type, envelope.id)
        self._envelope = envelope
        self._answer = answer
        self._reply = reply

    @cached_property
    def metadata(self) -> Any:
        """Decoded JSON; None if there is none."""
        return msgspec.json.decode(self._envelope.metadata)

    @cached_property
    def payload(self) -> Any:
        """Decoded JSON with bytes in the place of binary attachments; None if there is none."""
        payload = msgspec.json.decode(self._envelope.payload)
        return _put_back(payload, self.attachments) if self.attachments else payload

    def payload_as(self, type: type[T]) -> T:
        """The payload as a type that msgspec knows (Struct, dataclass, TypedDict, …), or msgspec.ValidationError."""
        return msgspec.json.decode(self._envelope.payload, type=type)

    @property
    def receipt(self) -> Receipt | None:
        """What the router tells of an earlier message of ours; None: this is a message like any other."""
        return self.payload_as(Receipt) if self.type == "receipt" and self.sender == "router" else None

    async def reply(self, payload: object = None) -> None:
        """To the sender, who waits for it; also acknowledges where that is needed. Waits through cuts.

        Refused `unknown_message`: nobody waits, or not any more. TypeError for what JSON cannot hold, bytes too.
        """
        await self._reply(self, msgspec.Raw(msgspec.json.encode(payload)))
        self.ack()

    def ack(self) -> None:
        """Processed: it is never delivered again. Does nothing where the endpoint does not ask for it (`needs_ack`)."""
        self._settle(None)

    def nack(self, reason: str) -> None:
        """Not processed: delivered again, dead-lettered with `reason` in the end; ValueError if not `needs_ack`."""
        if not self.needs_ack:
            raise ValueError("this endpoint does not wait for the application: there is nothing to refuse")
        self._settle(reason)

    def _settle(self, reason: str | None) -> None:
        answer, self._answer = self._answer, _settled
        if self.needs_ack:
            answer(self, reason)

    def __repr__(self) -> str:
        return f"<Message {self.type!r} {self.id} from {self.sender}>"


def _settled(message: Message, reason: str | None) -> None:
    """A second answer changes nothing."""


def encode_message(
    ids: Mapping[str, object], payload: object, metadata: object, options: object
) -> tuple[msgspec.Raw, tuple[bytes, ...]]:
    """(message, attachments). UNSET leaves a key out; TypeError for what JSON cannot hold."""
    parts: list[bytes] = []

    def take_out(value: object) -> object:
        if not isinstance(value, Binary):
            raise TypeError(f"{type(value).__name__} does not go into JSON; bytes go as Binary(…)")
        parts.append(value.data)
        return {"_placeholder": True, "num": len(parts) - 1}

    message = {"ids": ids, "metadata": metadata, "payload": payload, "options": options}
    present = {key: value for key, value in message.items() if value is not msgspec.UNSET}
    return msgspec.Raw(msgspec.json.encode(present, enc_hook=take_out)), tuple(parts)


def _put_back(value: Any, parts: Sequence[bytes]) -> Any:
    if type(value) is list:
        return [_put_back(item, parts) for item in value]
    if type(value) is not dict:
        return value
    number = value.get("num")
    if value.get("_placeholder") is True and type(number) is int and 0 <= number < len(parts):
        return parts[number]
    return {key: _put_back(item, parts) for key, item in value.items()}
