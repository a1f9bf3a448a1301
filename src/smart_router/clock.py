"""Time for all of Smart Router: the only module that reads a clock.

Intervals are monotonic seconds (`monotonic`), what leaves the process is wall-clock milliseconds (`wall_ms`):
a clock that jumps expires nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "Deadlines", "Owner", "SystemClock"]


class Clock(Protocol):
    def monotonic(self) -> float: ...
    def wall_ms(self) -> int: ...


class SystemClock:
    @staticmethod
    def monotonic() -> float:
        return time.monotonic()

    @staticmethod
    def wall_ms() -> int:
        return time.time_ns() // 1_000_000


class Owner(Protocol):
    """Has a deadline that may move; `deadline` is None when nothing is due."""

    queued: float | None  # kept by Deadlines: the time this owner stands in the heap with

    @property
    def deadline(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...


class Deadlines:
    """Many owners, one timer. An owner whose deadline moves later costs nothing until the earlier one passes.

    `watch(owner)` after each change that may bring the deadline nearer; a later deadline needs no call.
    """

    def __init__(self, clock: Clock, call_at: Callable[[float, Callable[[], None]], asyncio.TimerHandle]) -> None:
        """`call_at` is the event loop's; its clock is the monotonic one."""
        self.clock = clock
        self._call_at = call_at
        self._heap: list[tuple[float, int, Owner]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, owner: Owner) -> None:
        when = owner.deadline
        if when is None or (owner.queued is not None and owner.queued <= when):
            return
        owner.queued = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, owner))
        if when < self._timer_at:
            self._arm(when)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self.run(self.clock.monotonic())
        if self._heap:
            self._arm(self._heap[0][0])

    def run(self, now: float) -> None:
        """Hands every owner whose deadline has come its `handle_timer`; the fake clock's entry point too.

        Once each: an owner that stays due gets its next turn after the loop's other work, so it starves nobody.
        """
        for owner in self._due(now):
            if owner.deadline is not None and owner.deadline <= now:
                owner.handle_timer(now)
            self.watch(owner)

    def _due(self, now: float) -> list[Owner]:
        heap = self._heap
        owners = []
        while heap and heap[0][0] <= now:
            when, _, owner = heapq.heappop(heap)
            if owner.queued == when:
                owner.queued = None
                owners.append(owner)
        return owners

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()
