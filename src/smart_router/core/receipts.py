"""Receipts: what a sender that asked for it is told of its message, per recipient (DESIGN: no silent drop).

put ──► queued        confirmed ──► delivered        marked ──► read        any bad end ──► its state
   └──────────────────────┴── message of type `receipt` in the sender's own mailbox ──┴──────────┘
A delivered message is forgotten only when its receipt is safe: a crash in between delivers it again, and tells again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from smart_router.brokers.base import Broker, End, Entry, PutResult
from smart_router.clock import Clock
from smart_router.core.delivered import Delivered, Record
from smart_router.core.own_mailboxes import OwnMailboxes
from smart_router.errors import Refused, RouterError
from smart_router.message import ANSWER, TELL_DELIVERED, TELL_FAILED, TELL_QUEUED, TELL_READ, Message

__all__ = ["RECEIPT", "ReceiptStatistics", "Receipts"]

RECEIPT: Final = "receipt"
_RETRY: Final = 1.0  # s
_MAX_RETRIED: Final = 10_000  # receipts that wait for the broker; further ones are lost, and counted
_PASSING: Final = frozenset({"broker_away", "storage_full", "busy"})
_encode: Final = msgspec.json.Encoder().encode
_log = structlog.get_logger("smart_router.receipts")
_Key = tuple[str, str, str]


class ReceiptStatistics(NamedTuple):
    told: int  # receipts that are safe in a mailbox
    lost: int  # the sender's mailbox did not take them, or there is none
    waiting: int  # for a broker that takes nothing now
    remembered: int  # delivered messages that may still be marked as read, or replied to


class _Receipt(NamedTuple):
    """`owed`: what may be forgotten as soon as the receipt is safe."""

    entry: Entry
    owed: Entry | None


class Receipts:
    """Knows of a message only what it carries (`Message.wants`), so it works on whichever node something happens."""

    def __init__(self, broker: Broker, own: OwnMailboxes, delivered: Delivered, clock: Clock) -> None:
        self._broker = broker
        self._own = own
        self._delivered = delivered
        self._wall_ms = clock.wall_ms
        self._unsafe: set[_Key] = set()
        """On their way into a mailbox, to be told as queued."""
        self._owed: Counter[str] = Counter()
        """By address: confirmed, and kept until the receipt is safe."""
        self._waiting: list[_Receipt] = []
        self._retry: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending = self._told = self._lost = 0

    # what happens to a message

    def sent(self, entries: Iterable[Entry]) -> None:
        """They are about to be put; `put` follows."""
        for entry in entries:
            if entry.message.wants & TELL_QUEUED:
                self._unsafe.add(_key(entry))

    def put(self, entries: Iterable[Entry], result: PutResult) -> None:
        """They are safe in their mailboxes, but for those that were refused; or none is, as they only repeat others."""
        receipts: list[_Receipt] = []
        for entry in entries:
            error = result.refused.get(entry.address)
            if result.answer is not None:
                self._unsafe.discard(_key(entry))
            elif error is None:
                self._queued(entry, receipts)
            else:
                self._unsafe.discard(_key(entry))
                if entry.message.wants & TELL_FAILED:
                    receipt = self._receipt(entry.message, entry.address, End.REFUSED.value, error.code)
                    _append(receipts, receipt)
        self._send(receipts)

    def _queued(self, entry: Entry, receipts: list[_Receipt]) -> None:
        """Said once, and before anything else: a recipient may be quicker than the disk."""
        key = _key(entry)
        if key in self._unsafe:
            self._unsafe.discard(key)
            _append(receipts, self._receipt(entry.message, entry.address, "queued"))

    def delivered(self, actor: str, batch: Sequence[Entry]) -> list[Entry]:
        """`actor` has them. Those that the broker may forget now; the others it does when their receipts are safe."""
        free: list[Entry] = []
        receipts: list[_Receipt] = []
        for entry in batch:
            wants = entry.message.wants
            if wants & (TELL_READ | ANSWER):
                self._delivered.add(actor, entry)
            if wants & TELL_QUEUED:
                self._queued(entry, receipts)
            receipt = self._receipt(entry.message, entry.address, "delivered") if wants & TELL_DELIVERED else None
            if receipt is None:
                free.append(entry)
            else:
                self._owed[entry.address] += 1
                receipts.append(_Receipt(receipt, entry))
        self._send(receipts)
        return free

    def read(self, record: Record) -> None:
        """Its recipient has read it, which is said once."""
        if not record.read:
            record.read = True
            receipts: list[_Receipt] = []
            _append(receipts, self._receipt(record.message, record.address, "read"))
            self._send(receipts)

    def ended(self, message: Message, address: str, state: End, reason: str) -> None:
        """Another end than delivered."""
        self._unsafe.discard((message.id, address, message.type))
        if message.wants & TELL_FAILED:
            receipts: list[_Receipt] = []
            _append(receipts, self._receipt(message, address, state.value, reason))
            self._send(receipts)

    def owes(self, address: str) -> bool:
        """What is confirmed in this mailbox waits for its receipt: it must not be given to anybody again."""
        return address in self._owed

    # into the sender's mailbox

    def _receipt(self, message: Message, address: str, status: str, reason: str = "") -> Entry | None:
        """None: the sender can have no receipts."""
        payload = {"message": message.id, "to": address, "status": status, "reason": reason, "at": self._wall_ms()}
        fields = {"ids": {}, "metadata": {"type": message.type, "id": message.key}, "payload": payload}
        try:
            return self._own.entry(message.sender, RECEIPT, _encode(fields)[1:])
        except Refused as error:
            self._lose(message.sender, error)
            return None

    def _send(self, receipts: list[_Receipt]) -> None:
        if receipts:
            self._sending += len(receipts)
            self._idle.clear()
            self._own.put([receipt.entry for receipt in receipts], lambda result: self._sent(receipts, result))

    def _sent(self, receipts: list[_Receipt], result: PutResult) -> None:
        free: list[Entry] = []
        self._sending -= len(receipts)
        for receipt in receipts:
            error = result.refused.get(receipt.entry.address)
            if error is not None and error.code in _PASSING and len(self._waiting) < _MAX_RETRIED:
                entry = receipt.entry  # the broker's handle of what it refused; a session may have it all the same
                self._waiting.append(_Receipt(Entry(entry.message, entry.address, entry.policy), receipt.owed))
                continue
            if error is not None:
                self._lose(receipt.entry.address, error)
            else:
                self._told += 1
            if receipt.owed is not None:
                self._settle(receipt.owed.address)
                free.append(receipt.owed)
        if free:
            self._broker.ack(free)
        self._wait()

    def _settle(self, address: str) -> None:
        self._owed[address] -= 1
        if not self._owed[address]:
            del self._owed[address]

    def _wait(self) -> None:
        """The broker takes nothing now: later again."""
        if self._waiting and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY, self._again)
        elif not self._waiting and not self._sending:
            self._idle.set()

    def _again(self) -> None:
        self._retry = None
        receipts, self._waiting = self._waiting, []
        self._send(receipts)

    def _lose(self, actor: str, error: RouterError) -> None:
        self._lost += 1
        _log.debug("receipt_lost", actor=actor, code=error.code)

    async def close(self) -> None:
        """What is owed is safe when this returns, if the broker takes it."""
        try:
            await asyncio.wait_for(self._idle.wait(), 2.0)
        except TimeoutError:
            _log.warning("receipts_not_told", count=len(self._waiting))
        if self._retry is not None:
            self._retry.cancel()

    def statistics(self) -> ReceiptStatistics:
        return ReceiptStatistics(self._told, self._lost, len(self._waiting), len(self._delivered))


def _append(receipts: list[_Receipt], entry: Entry | None) -> None:
    if entry is not None:
        receipts.append(_Receipt(entry, None))


def _key(entry: Entry) -> _Key:
    message = entry.message
    return message.id, entry.address, message.type
