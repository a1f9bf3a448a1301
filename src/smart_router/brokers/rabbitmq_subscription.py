"""One reader of a mailbox in RabbitMQ.

    queue ─► Tap ─► credit? ──yes──► Consumer.deliver ─► ack, or release ─► front, or after its delay
                      └─no─► buffer (prefetched) ─► given back when the reader stays without credit, or closes

An exclusive mailbox is consumed from the first moment: RabbitMQ keeps the line. A shared one with the first credit; it
is left when the reader has none for long. What was prefetched and not delivered goes back; it is remembered here that
nobody has seen it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from smart_router.brokers.base import Consumer, End, Entry
from smart_router.brokers.rabbitmq_channels import HELD, WAITING, Feed
from smart_router.brokers.rabbitmq_mailbox import Box, slot_of
from smart_router.brokers.rabbitmq_marks import Marks
from smart_router.brokers.rabbitmq_names import NORMAL
from smart_router.brokers.rabbitmq_tap import Tap

__all__ = ["RabbitSubscription", "Readers"]

_EXCLUSIVE_PREFETCH: Final = 128
"""It cannot grow: who consumes anew stands last in line. A shared mailbox's follows the credit of its reader."""

_FAIR_TURN: Final = 8
_PATIENCE: Final = 1.0  # s without credit, until what was prefetched goes back to the others
_LONGEST: Final = 480.0  # s unacknowledged: RabbitMQ closes the channel after some more


class Readers(Protocol):
    """What a subscription needs of its broker."""

    marks: Marks
    order: itertools.count[int]

    def now(self) -> float: ...

    def wall_ms(self) -> int: ...

    def end(self, entry: Entry, end: End, reason: str) -> None: ...

    def watch(self, sub: RabbitSubscription) -> None: ...

    def start(self, sub: RabbitSubscription, prefetch: int) -> None:
        """Begins to consume, in a task."""

    def leave(self, sub: RabbitSubscription, taps: list[Tap], back: list[Entry]) -> None:
        """Ends these consumers, then gives those entries back."""


class RabbitSubscription:
    """`held`: what the reader was given and has not confirmed. `waiting`: what is here and not given."""

    __slots__ = (
        "_delayed",
        "_front",
        "_lanes",
        "_pumping",
        "_readers",
        "_takes",
        "box",
        "closed",
        "consumer",
        "credit",
        "deadline",
        "held",
        "lost",
        "opening",
        "prefetch",
        "queued",
        "stalled",
        "starting",
        "taps",
        "waiting",
    )

    def __init__(self, box: Box, consumer: Consumer, readers: Readers) -> None:
        self.box = box
        self.consumer = consumer
        self.credit = 0
        self.closed = False
        self.held: dict[Entry, None] = {}
        self.lost: dict[str, Entry] = {}
        self.taps: dict[int, Tap] = {}
        self.prefetch = _EXCLUSIVE_PREFETCH if box.policy.exclusive else 0
        self.waiting = 0
        self.opening = 0
        self.starting = False
        self.queued: float | None = None
        self.deadline: float | None = None
        self.stalled: float | None = None
        self._readers = readers
        self._front: list[tuple[int, Entry]] = []
        self._delayed: list[tuple[float, int, Entry]] = []
        self._lanes: dict[int, deque[Entry]] = {}
        self._pumping = False
        self._takes = 0

    def grant(self, credit: int) -> None:
        if self.closed:
            return
        self.credit = max(0, self.credit + credit)
        if self.credit:
            wanted = self.credit + len(self.held)
            if wanted > self.prefetch and not self.box.policy.exclusive:
                self.prefetch = wanted
                self._readers.start(self, self.prefetch)
            if self.waiting:
                self.pump()
        self._note_stall()

    def close(self, *, keep: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        self.credit = 0
        self.deadline = None
        back = self.take_all()
        if not keep:
            back = [*self.held, *back]
            self.held.clear()
        taps, self.taps = list(self.taps.values()), {}
        self._readers.leave(self, taps, back)

    # In

    def take(self, entry: Entry, priority: int) -> None:
        """One has come from RabbitMQ."""
        if self.credit and not self.waiting and not self.opening:
            self.hand(entry)
            return
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
        lane.append(entry)
        self.waiting += 1
        if self.credit:
            self.pump()
        else:
            self._note_stall()

    def put_front(self, entries: Iterable[Entry]) -> None:
        """These come before all that waits, in the order of their coming here."""
        for entry in entries:
            slot = slot_of(entry)
            slot.state = WAITING
            slot.owner = self
            heapq.heappush(self._front, (slot.order, entry))
            self.waiting += 1
        if self.credit:
            self.pump()
        else:
            self._note_stall()

    def put_later(self, entries: Iterable[Entry], delay: float) -> None:
        when = self._readers.now() + min(delay, _LONGEST)
        for entry in entries:
            slot = slot_of(entry)
            slot.state = WAITING
            heapq.heappush(self._delayed, (when, slot.order, entry))
            self.waiting += 1
        self._schedule()

    # Out

    def pump(self) -> None:
        """Gives what waits, while there is credit and no lane is being opened."""
        if self._pumping or self.opening:
            return
        self._pumping = True
        try:
            while self.credit and self.waiting > len(self._delayed):
                entry = self._next()
                self.waiting -= 1
                if slot_of(entry).state != WAITING:
                    continue  # confirmed meanwhile
                expires_at = entry.message.expires_at
                if expires_at and expires_at <= self._readers.wall_ms():
                    self._readers.end(entry, End.EXPIRED, "ttl")
                else:
                    self.hand(entry)
        finally:
            self._pumping = False

    def hand(self, entry: Entry) -> None:
        self.credit -= 1
        slot_of(entry).state = HELD
        self.held[entry] = None
        self.box.left(entry.message.size)
        self.consumer.deliver(entry)

    def _next(self) -> Entry:
        """What came back, then the highest priority; now and then what has waited longest, so that nothing starves."""
        if self._front:
            return heapq.heappop(self._front)[1]
        filled = [priority for priority, lane in self._lanes.items() if lane]
        self._takes += 1
        if len(filled) > 1 and self._takes % _FAIR_TURN == 0:
            chosen = min(filled, key=lambda priority: self._lanes[priority][0].message.at)
        else:
            chosen = max(filled)
        return self._lanes[chosen].popleft()

    def all_waiting(self) -> list[Entry]:
        entries = [entry for _, entry in sorted(self._front)] + [entry for _, _, entry in sorted(self._delayed)]
        for priority in sorted(self._lanes, reverse=True):
            entries.extend(self._lanes[priority])
        return entries

    def take_all(self) -> list[Entry]:
        """All that waits here, which does no longer."""
        entries = self.all_waiting()
        self._front, self._delayed, self._lanes = [], [], {}
        self.waiting = 0
        return entries

    def take_unseen(self) -> list[Entry]:
        """What was prefetched and never given."""
        entries = [entry for lane in self._lanes.values() for entry in lane]
        self._lanes = {}
        self.waiting -= len(entries)
        return entries

    def disconnected(self, feed: Feed) -> None:
        """A channel is gone: what came over it will come again."""
        keep = [entry for entry in self.take_all() if slot_of(entry).feed is not feed]
        for entry in self.held:
            if slot_of(entry).feed is feed:
                self.lost[entry.message.id] = entry
        for entry in keep:
            self._lanes.setdefault(entry.message.priority, deque()).append(entry)
        self.waiting = len(keep)

    # Time

    def _note_stall(self) -> None:
        """A reader without credit does not keep from others what was prefetched for it."""
        if self.credit or not self.waiting or self.closed:
            if self.stalled is not None:
                self.stalled = None
                self._schedule()
        elif self.stalled is None:
            self.stalled = self._readers.now() + (_LONGEST if self.box.policy.exclusive else _PATIENCE)
            self._schedule()

    def _schedule(self) -> None:
        when = self.stalled
        if self._delayed and (when is None or self._delayed[0][0] < when):
            when = self._delayed[0][0]
        self.deadline = when
        self._readers.watch(self)

    def handle_timer(self, now: float) -> None:
        due = []
        while self._delayed and self._delayed[0][0] <= now:
            due.append(heapq.heappop(self._delayed)[2])
        if due:
            self.waiting -= len(due)
            self.put_front(due)
        if self.stalled is not None and self.stalled <= now:
            self._step_back()
        self._schedule()

    def _step_back(self) -> None:
        """Exclusive: it comes again at once, with a new time; shared: others have it, until there is credit again."""
        self.stalled = None
        delayed, self._delayed = self._delayed, []
        back = self.take_all()
        self._delayed, self.waiting = delayed, len(delayed)
        taps: list[Tap] = []
        if not self.box.policy.exclusive:
            taps, self.taps, self.prefetch = list(self.taps.values()), {}, 0
        self._readers.leave(self, taps, back)

    @property
    def has_turn(self) -> bool:
        """It was given something: of an exclusive mailbox, RabbitMQ's single active consumer."""
        tap = self.taps.get(NORMAL)
        return tap is not None and tap.active and not self.closed
