"""What a recipient says of a message that it was given: that it has read it, or its reply.

client ─ (kind, id, payload) ─► said ─┬─ in flight here: it has it, so it is confirmed, with all before it
                                      ├─ delivered here within the last hour
                                      └─ delivered by another node: that one does it
                                             └─► a receipt, or the reply's way to whoever asked
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from smart_router.bus.base import MAX_DATA
from smart_router.core.asking import Asking
from smart_router.core.delivered import Delivered, Record
from smart_router.core.delivery import Delivery
from smart_router.core.receipts import Receipts
from smart_router.core.replies import Replies
from smart_router.core.sessions import Session
from smart_router.errors import Refused, RouterError
from smart_router.message import ANSWER, TELL_READ

__all__ = ["MarkStatistics", "Marks"]

_pack: Final = msgspec.msgpack.Encoder().encode
_MAX_PAYLOAD: Final = MAX_DATA - 4096
_PATIENCE: Final = 4.0  # s: the node that is asked may have to ask another one


class _Said(msgspec.Struct, array_like=True):
    """`payload`: of a reply; None: it has been read."""

    actor: str
    id: str
    payload: bytes | None


class _Outcome(msgspec.Struct, array_like=True):
    """`code`: "" or why it was refused."""

    code: str
    text: str


_said: Final = msgspec.msgpack.Decoder(_Said).decode
_outcome: Final = msgspec.msgpack.Decoder(_Outcome).decode


class MarkStatistics(NamedTuple):
    read: int
    replies: int
    refused: int  # of messages that are not known, or whose sender did not ask


class Marks:
    """`others`: how many other nodes there are to ask."""

    def __init__(
        self, delivery: Delivery, delivered: Delivered, receipts: Receipts, replies: Replies, asking: Asking
    ) -> None:
        self._delivery = delivery
        self._delivered = delivered
        self._receipts = receipts
        self._replies = replies
        self._asking = asking
        self.others: Callable[[], int] = lambda: 0
        self._read = self._replied = self._refused = 0
        asking.answer("said", self._on_said)

    def read(self, session: Session, message_id: str) -> Awaitable[None] | None:
        """The session's actor has read it; None: done. Raises Refused, or the awaitable does."""
        return self._say(session, message_id, None)

    def reply(self, session: Session, message_id: str, payload: bytes) -> Awaitable[None] | None:
        """The session's actor replies to it; `payload`: JSON. As `read`."""
        limit = session.endpoint.max_message_size
        if len(payload) > limit:
            self._refused += 1
            raise Refused("too_large", f"The reply has {len(payload)} bytes, the limit is {limit}.", limit=limit)
        return self._say(session, message_id, payload)

    def acknowledged(self, session: Session, number: int, payload: bytes) -> Awaitable[None] | None:
        """An acknowledgement that holds a reply, before `Delivery.answered`. As `reply`."""
        entry, _ = session.pending.get(number, (None, 0.0))
        if entry is None:
            raise self._unknown("")
        if not entry.message.wants & ANSWER:
            return None  # an object of the application's own
        self._delivered.add(session.actor, entry)
        return self.reply(session, entry.message.id, payload)

    def _say(self, session: Session, message_id: str, payload: bytes | None) -> Awaitable[None] | None:
        self._has_it(session, message_id, payload)
        records = self._delivered.find(session.actor, message_id)
        if records:
            return self._do(records, session.actor, payload)
        if self.others() > 0:
            return self._elsewhere(_Said(session.actor, message_id, payload))
        raise self._unknown(message_id)

    def _has_it(self, session: Session, message_id: str, payload: bytes | None) -> None:
        """What it speaks of has arrived, and all that was written before it."""
        for number, entry in enumerate(session.inflight, session.confirmed + 1):
            if entry.message.id == message_id:
                self._delivery.confirm(session, number)
                return
        for entry, _ in session.pending.values():
            if entry.message.id == message_id:
                if payload is None:
                    text = "This message is not confirmed yet: acknowledge it first."
                    raise self._refuse(Refused("unknown_message", text, id=message_id[:128]))
                self._delivered.add(session.actor, entry)

    def _do(self, records: list[Record], actor: str, payload: bytes | None) -> Awaitable[None] | None:
        wanted = ANSWER if payload is not None else TELL_READ
        asked = [record for record in records if record.message.wants & wanted]
        if not asked:
            text = (
                "The sender of this message asked for no reply." if payload is not None else "Its sender did not ask."
            )
            raise self._refuse(Refused("unknown_message", text, id=records[0].message.id))
        if payload is not None:
            return self._reply(asked[0], actor, payload)
        self._read += 1
        for record in asked:
            self._receipts.read(record)
        return None

    def _reply(self, record: Record, actor: str, payload: bytes) -> Awaitable[None] | None:
        if record.reply == hash(payload):
            return None  # said again, after a cut
        waits = self._replies.reply(record.message, actor, payload)
        if waits is not None:
            return self._reply_later(waits, record, payload)
        self._replied += 1
        record.reply = hash(payload)
        return None

    async def _reply_later(self, waits: Awaitable[None], record: Record, payload: bytes) -> None:
        await waits
        self._replied += 1
        record.reply = hash(payload)

    def _unknown(self, message_id: str) -> Refused:
        text = "No message with this id was delivered to you in the last hour whose sender asked for it."
        return self._refuse(Refused("unknown_message", text, **({"id": message_id[:128]} if message_id else {})))

    def _refuse(self, error: Refused) -> Refused:
        self._refused += 1
        return error

    # other nodes

    async def _elsewhere(self, said: _Said) -> None:
        if len(said.payload or b"") > _MAX_PAYLOAD:
            raise self._refuse(Refused("too_large", f"A reply has at most {_MAX_PAYLOAD} bytes.", limit=_MAX_PAYLOAD))
        answer = await self._asking.ask_any("said", _pack(said), self.others(), _PATIENCE)
        if answer is None:
            raise self._unknown(said.id)
        outcome = _outcome(answer)
        if outcome.code:
            raise Refused(outcome.code, outcome.text, id=said.id)

    async def _on_said(self, node: str, data: bytes) -> bytes | None:
        said = _said(data)
        records = self._delivered.find(said.actor, said.id)
        if not records:
            return None
        try:
            waits = self._do(records, said.actor, said.payload)
            if waits is not None:
                await waits
        except RouterError as error:
            return _pack(_Outcome(error.code, error.message))
        return _pack(_Outcome("", ""))

    def statistics(self) -> MarkStatistics:
        return MarkStatistics(self._read, self._replied, self._refused)
