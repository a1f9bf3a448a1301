"""Message ids: time-ordered, unique, made without asking anybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Ids"]

_HEX: Final = [f"{number:03x}" for number in range(0x1000)]


class Ids:
    """Time-ordered unique message ids: UUID version 7 (RFC 9562, 5.7; 6.2 method 1), a counter in rand_a and rand_b.

    `node`: 48 random bits, drawn once per process. A clock that goes back does not: the last millisecond is kept.
    """

    __slots__ = ("_counter", "_ms", "_node", "_prefix", "_wall_ms", "at", "at_json")

    def __init__(self, wall_ms: Callable[[], int], node: bytes) -> None:
        self._wall_ms = wall_ms
        self._node = f"-{node.hex()}"
        self._ms = 0
        self._counter = 0
        self._prefix = ""
        self.at = 0
        self.at_json = b""

    def new(self) -> str:
        """A fresh id; `at` is then its time in ms since 1970 UTC, `at_json` the same as JSON with a comma behind it."""
        ms = self._wall_ms()
        self._counter = counter = self._counter + 1
        if ms > self._ms or not counter & 0xFFF:
            counter = self._turn(ms)
        return self._prefix + _HEX[counter & 0xFFF] + self._node

    def _turn(self, ms: int) -> int:
        """Another millisecond, or another 4,096 ids in one."""
        if ms > self._ms:
            self._ms = self.at = ms
            self.at_json = b"%d," % ms
            self._counter = 0
        elif self._counter > 0xFFFFFF:
            self._ms += 1
            self._counter = 0
        digits = f"{self._ms:012x}"
        self._prefix = f"{digits[:8]}-{digits[8:]}-7{self._counter >> 12:03x}-8"
        return self._counter
