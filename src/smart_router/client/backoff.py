"""How long to wait before the next try: growing, and at random, so that a thousand clients do not come back at once."""

from __future__ import annotations

from random import Random

__all__ = ["Backoff"]


class Backoff:
    """Full jitter: between 0 and `first` × 2ⁿ, at most `limit` seconds."""

    def __init__(self, first: float, limit: float, random: Random) -> None:
        self._first = first
        self._limit = limit
        self._random = random
        self._bound = first

    def next(self) -> float:
        """Seconds to wait now; the next time it may be twice as long."""
        bound, self._bound = self._bound, min(self._bound * 2, self._limit)
        return self._random.uniform(0, min(bound, self._limit))

    def reset(self) -> None:
        """It worked: begin from the start the next time."""
        self._bound = self._first
