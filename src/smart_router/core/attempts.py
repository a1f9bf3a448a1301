"""Attempts of `ack = "client"`: refused or not answered in time, so tried again later, in the end dead-lettered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smart_router.brokers.base import Broker, End, Entry
from smart_router.core.ends import Ends
from smart_router.core.retry import retry_delay
from smart_router.core.sessions import Session

__all__ = ["MAX_DELIVERIES", "Attempts"]

MAX_DELIVERIES: Final = 20
"""Sessions that a message may have outlived: a guard against one that kills its reader."""


class Attempts:
    """Counts them."""

    def __init__(self, broker: Broker, ends: Ends, random: Callable[[], float]) -> None:
        self._broker = broker
        self._ends = ends
        self._random = random

    def failed(self, session: Session, entry: Entry, detail: str, now: float) -> None:
        """One more attempt has failed. While the message waits for its next, later ones go on, unless the window is 1:

        then it stays with the session (`retrying`), whose timer gives it back.
        """
        policy = session.endpoint.settings.retry
        entry.attempts += 1
        entry.redelivered = True
        if entry.attempts >= policy.attempts:
            self._ends.end(entry, End.FAILED, "attempts", f"{entry.attempts} attempts; the last: {detail}")
            return
        delay = retry_delay(policy, entry.attempts, self._random)
        if session.window == 1 and delay > 0:
            session.retrying, session.retry_at = entry, now + delay
        else:
            self._broker.release((entry,), delay=delay)

    def given_back(self, entries: list[Entry], *, client: bool) -> None:
        """A session is gone: no attempt, and in order before what waits; but not for ever."""
        back: list[Entry] = []
        for entry in entries:
            entry.redelivered = True
            if client and entry.deliveries >= MAX_DELIVERIES:
                detail = f"{entry.deliveries} sessions ended while they had it"
                self._ends.end(entry, End.FAILED, "deliveries", detail)
            else:
                back.append(entry)
        if back:
            self._broker.release(back)
