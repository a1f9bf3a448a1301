"""What all WebSockets of a node may hold of what has come in and is no whole message yet: one budget.

A read buffer grows with the frame in it, up to the connection's message limit, and fragments are kept until the last
has come. Each second the sum is looked at; over the budget the connections that hold most end, with 1013.
"""

from __future__ import annotations

from typing import Final

from smart_router.gateways.cork import Cork

__all__ = ["ReadBuffers"]

_EVERY: Final = 1.0  # s


class ReadBuffers:
    """clock.Owner. `held`: bytes at the last look. What each connection has from the beginning is not counted."""

    def __init__(self, cork: Cork, budget: int) -> None:
        self._cork = cork
        self._budget = budget
        self.held = 0
        self.deadline: float | None = cork.clock() + _EVERY
        self.queued: float | None = None

    def close(self) -> None:
        self.deadline = None

    def handle_timer(self, now: float) -> None:
        self.deadline = now + _EVERY
        holders = [(held, socket) for socket in self._cork.open if (held := socket.held)]
        total = sum([held for held, _ in holders])
        if total > self._budget:
            holders.sort(key=lambda holder: holder[0], reverse=True)
            for held, socket in holders:
                if total <= self._budget:
                    break
                self._cork.counters.buffers_closed += 1
                socket.shed()
                total -= held
        self.held = total
