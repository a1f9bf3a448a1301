"""Tokens that end while their session lives: told 30 s before, then cut.

Expiry follows the wall clock, timers the monotonic one: so the wall clock is looked at every second at least, and one
that jumps by an hour is noticed within that second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from smart_router.clock import Clock

__all__ = ["TokenWatch", "TokenWatchStatistics"]

WARNING_MS: Final = 30_000
LOOK_EVERY: Final = 1.0

K = TypeVar("K", bound=Hashable)


class TokenWatchStatistics(NamedTuple):
    watched: int
    warned: int
    expired: int


class _Watched:
    __slots__ = ("expires_at", "warned")

    def __init__(self, expires_at: int) -> None:
        self.expires_at = expires_at
        self.warned = False

    @property
    def next_at(self) -> int:
        return self.expires_at if self.warned else self.expires_at - WARNING_MS


class TokenWatch(Generic[K]):
    """The expiring tokens of a node's sessions; an owner for clock.Deadlines: `deadlines.watch(it)` after each `add`.

    `on_expiring(key)`: 30 s before, once for each `add`; at the next look if it is later already. `on_expired(key)`:
    the key is then not watched any more. Either may call `add` and `discard`.
    """

    def __init__(self, clock: Clock, on_expiring: Callable[[K], None], on_expired: Callable[[K], None]) -> None:
        self._clock = clock
        self._on_expiring = on_expiring
        self._on_expired = on_expired
        self._watched: dict[K, _Watched] = {}
        self._heap: list[tuple[int, int, K, _Watched]] = []
        self._count = 0
        self._warned = 0
        self._expired = 0
        self.deadline: float | None = None
        self.queued: float | None = None

    def add(self, key: K, expires_at: int | None) -> None:
        """Watches `key`, from now with this expiry (wall ms; None: never), whatever it had before."""
        self.discard(key)
        if expires_at is None:
            return
        watched = self._watched[key] = _Watched(expires_at)
        self._push(key, watched)
        self._set_deadline(self._clock.monotonic())

    def discard(self, key: K) -> None:
        """Its session has ended."""
        if self._watched.pop(key, None) is not None and len(self._heap) > 2 * len(self._watched):
            self._heap = [item for item in self._heap if self._watched.get(item[2]) is item[3]]
            heapq.heapify(self._heap)

    def handle_timer(self, now: float) -> None:
        wall = self._clock.wall_ms()
        while self._heap and self._heap[0][0] <= wall:
            _, _, key, watched = heapq.heappop(self._heap)
            if self._watched.get(key) is watched:
                self._tell(key, watched, wall)
        self._set_deadline(now)

    def statistics(self) -> TokenWatchStatistics:
        return TokenWatchStatistics(len(self._watched), self._warned, self._expired)

    def _tell(self, key: K, watched: _Watched, wall: int) -> None:
        if watched.expires_at <= wall:
            del self._watched[key]
            self._expired += 1
            self._on_expired(key)
            return
        watched.warned = True
        self._warned += 1
        self._push(key, watched)
        self._on_expiring(key)

    def _push(self, key: K, watched: _Watched) -> None:
        self._count += 1
        heapq.heappush(self._heap, (watched.next_at, self._count, key, watched))

    def _set_deadline(self, now: float) -> None:
        if not self._watched:
            self.deadline = None
            return
        until_next = (self._heap[0][0] - self._clock.wall_ms()) / 1000
        self.deadline = now + min(LOOK_EVERY, max(until_next, 0.0))
