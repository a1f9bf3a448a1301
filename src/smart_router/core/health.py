"""Warnings and errors since the last check, for monitoring systems (specs: actor routing, Health)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = ["Health", "HealthEntry"]

Level = Literal["ok", "warning", "error"]


class HealthEntry(NamedTuple):
    level: Level
    message: str
    at: int  # ms since 1970 UTC


class Health:
    """Keeps the last `limit` entries; `check` hands them out once."""

    def __init__(self, wall_ms: Callable[[], int], limit: int = 100) -> None:
        self._wall_ms = wall_ms
        self._entries: deque[HealthEntry] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._entries)

    def warning(self, message: str) -> None:
        self._entries.append(HealthEntry("warning", message, self._wall_ms()))

    def error(self, message: str) -> None:
        self._entries.append(HealthEntry("error", message, self._wall_ms()))

    def check(self) -> list[HealthEntry]:
        """What happened since the last check, then forgotten; one OK entry when nothing did."""
        entries = list(self._entries) or [
            HealthEntry("ok", "No warnings or errors since the last check.", self._wall_ms())
        ]
        self._entries.clear()
        return entries
