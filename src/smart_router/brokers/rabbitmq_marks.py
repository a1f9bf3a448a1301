"""What this node remembers of messages that it gave back: whether anybody saw them, and core's counts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from smart_router.brokers.base import Entry

__all__ = ["LIMIT", "Marks"]

LIMIT: Final = 20_000


class Marks:
    """At most `limit`; the oldest go, and with them only the counts."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._marks: OrderedDict[tuple[str, str], tuple[bool, int, int]] = OrderedDict()
        self._confirmed: OrderedDict[tuple[str, str], None] = OrderedDict()

    def gone_back(self, entry: Entry, seen: bool) -> None:
        """RabbitMQ will call it redelivered; `seen`: somebody was given it."""
        key = (entry.address, entry.message.id)
        self._marks[key] = (seen or entry.redelivered, entry.attempts, entry.deliveries)
        self._marks.move_to_end(key)
        self._trim(self._marks)

    def restore(self, entry: Entry) -> None:
        mark = self._marks.pop((entry.address, entry.message.id), None)
        if mark is not None:
            entry.redelivered, entry.attempts, entry.deliveries = mark

    def confirmed(self, entry: Entry) -> None:
        """Confirmed after it had gone back: when it comes again, it is acknowledged and not delivered."""
        self._confirmed[entry.address, entry.message.id] = None
        self._trim(self._confirmed)

    def was_confirmed(self, entry: Entry) -> bool:
        key = (entry.address, entry.message.id)
        if key not in self._confirmed:
            return False
        del self._confirmed[key]
        return True

    def _trim(self, marks: OrderedDict[tuple[str, str], Any]) -> None:
        if len(marks) > self._limit:
            marks.popitem(last=False)
