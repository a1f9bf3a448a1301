"""What was delivered here, and whose recipient may still say something of it: that it was read, or a reply.

confirmed ─► add ─┐ [ the last 100,000, for an hour ] ─► find ─► core/marks.py
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from smart_router.brokers.base import Entry
from smart_router.clock import Clock
from smart_router.message import Message

__all__ = ["Delivered", "Record"]

_KEEP: Final = 100_000
_KEEP_FOR: Final = 3600.0  # s


class Record:
    """One message at one address. `message`: without its content. `reply`: of the recipient's, its hash; None: none."""

    __slots__ = ("address", "at", "message", "read", "reply")

    def __init__(self, entry: Entry, at: float) -> None:
        self.message: Message = msgspec.structs.replace(entry.message, body=b"", attachments=())
        self.address = entry.address
        self.at = at
        self.read = False
        self.reply: int | None = None


class Delivered:
    """By (actor that has it, message id): an actor may get one message at several addresses, or as several types."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._records: OrderedDict[tuple[str, str], list[Record]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, actor: str, entry: Entry) -> Record:
        """Again: the same record."""
        key = (actor, entry.message.id)
        records = self._records.setdefault(key, [])
        for known in records:
            if known.address == entry.address and known.message.type == entry.message.type:
                return known
        records.append(record := Record(entry, self._now()))
        self._forget()
        return record

    def _forget(self) -> None:
        records, oldest = self._records, self._now() - _KEEP_FOR
        while records:
            key = next(iter(records))
            if len(records) <= _KEEP and records[key][0].at > oldest:
                return
            del records[key]

    def find(self, actor: str, message_id: str) -> list[Record]:
        """Empty: unknown, or forgotten."""
        records = self._records.get((actor, message_id))
        if records is None or records[0].at <= self._now() - _KEEP_FOR:
            return []
        return records
