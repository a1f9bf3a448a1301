"""One call of the script: what a partition has to do and to ask, as Redis' Lua reads it (redis_scripts/turn.lua)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from smart_router.brokers.base import Entry
from smart_router.brokers.redis_box import Box, Section, Slot
from smart_router.brokers.redis_rows import text

if TYPE_CHECKING:
    from smart_router.brokers.redis_partition import Partition

__all__ = ["Call"]

_NONE: Final = ()
_encode: Final = msgspec.msgpack.Encoder().encode


class Call:
    """One call of the script: `packed` anew for each sending, its number stays."""

    __slots__ = ("first_sent", "guest", "keys", "refuse", "retry", "sections", "sent", "sweep", "when_full")

    def __init__(self, sections: list[tuple[Box, Section]], keys: list[tuple[bytes, bytes]], *, sweep: int) -> None:
        self.sections = sections
        self.keys = keys
        self.sweep = sweep
        self.guest = False
        self.retry = False
        self.refuse = False
        self.when_full = False
        self.first_sent = 0.0
        self.sent = 0.0

    def pack(self, partition: Partition, *, bye: bool) -> bytes:
        """`bye`: this life ends when the call is done."""
        host = partition.host
        policies: dict[tuple[int, ...], int] = {}
        sections = [_words(partition, box, section, policies) for box, section in self.sections]
        words = {
            **host.common_words(),
            "life": f"{host.node}.{partition.life}",
            "known": int(partition.known),
            "retry": int(self.retry),
            "number": partition.number,
            "now": host.now_ms(),
            "policies": list(policies),
            "keys": [(text(key), text(answer)) for key, answer in self.keys],
            "sections": sections,
            "sweep": self.sweep,
            "refuse": int(self.refuse),
            "bye": int(bye),
            "guest": int(self.guest),
        }
        return _encode(words)


def _words(
    partition: Partition, box: Box, section: Section, policies: dict[tuple[int, ...], int]
) -> tuple[object, ...]:
    policy = 0
    if box.words and (section.puts or box.subscriptions):
        policy = policies.setdefault(box.words, len(policies) + 1)
    tickets: object = _NONE
    if box.exclusive and box.subscriptions and (section.line or section.asks):
        tickets = [word for each in box.subscriptions for word in (partition.ticket(each), each.credit)]
    return (
        box.address,
        policy,
        box.credit() if box.subscriptions else 0,
        1 if box.subscriptions else 0,
        section.acks,
        section.withdrawn,
        _released(section.released) if section.released else _NONE,
        section.line,
        tickets,
        section.puts,
        section.operation,
    )


def _released(entries: list[tuple[Entry, float]]) -> list[object]:
    words: list[object] = []
    for entry, due in entries:
        slot = entry.slot
        assert isinstance(slot, Slot)
        words.append(slot.number)
        counts = f"{max(entry.attempts, 0)} {max(entry.deliveries, 0)} {int(entry.redelivered)}"
        words.append(counts)
        words.append(due)
    return words
