"""Another node, and how much of its table is known here."""

from __future__ import annotations

from smart_router.directory.announcements import Part, Row
from smart_router.directory.base import NodeRecord

__all__ = ["Peer"]


class Peer:
    """`seen`: the number of its last change in the table here; None: the table has not come yet."""

    def __init__(self, record: NodeRecord, now: float) -> None:
        self.record = record
        self.heard_at = now
        self.seen: int | None = None
        self.asked_at: float | None = None
        self._rows: list[Row] | None = None
        self._count = 0
        self._next = 0

    @property
    def settled(self) -> bool:
        return self.seen is not None and self.asked_at is None

    def must_ask(self, count: int) -> bool:
        """Its count is `count`: whether a change was missed, and nobody has asked yet."""
        if self.seen is None and count == 0:
            self.seen = 0
        return self.seen != count and self.asked_at is None

    def follows(self, count: int) -> bool:
        """The change `count` is the next one: it is noted as seen. Old ones and those behind a gap are not."""
        if self.seen is None or count != self.seen + 1 or self.asked_at is not None:
            return False
        self.seen = count
        return True

    def add_part(self, part: Part) -> list[Row] | None:
        """The whole table, when this was the last part; a part that does not follow makes the others void."""
        if part.number == 0:
            self._rows, self._count, self._next = [], part.count, 0
        if self._rows is None or part.count != self._count or part.number != self._next:
            self._rows = None
            return None
        self._rows += part.rows
        self._next += 1
        if not part.last:
            return None
        rows, self._rows = self._rows, None
        if self.seen is not None and part.count < self.seen:
            return None
        self.seen = part.count
        self.asked_at = None
        return rows
