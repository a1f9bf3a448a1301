"""Attempts of `ack = "client"`: refused or not answered in time, so tried again later, in the end dead-lettered."""

from __future__ import annotations

import asyncio
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
    """Counts them. `again`: called with the session whose `window = 1` has waited out a delay."""

    def __init__(self, broker: Broker, ends: Ends, random: Callable[[], float]) -> None:
        self._broker = broker
        self._ends = ends
        self._random = random
        self.again: Callable[[Session], None] = lambda _session: None

    def failed(self, session: Session, entry: Entry, detail: str) -> None:
        """One more attempt has failed. While the message waits for its next, later ones go on, unless the window is 1."""
        policy = session.endpoint.settings.retry
        entry.attempts += 1
        entry.session = None
        entry.redelivered = True
        if entry.attempts >= policy.attempts:
            self._ends.end(entry, End.FAILED, "attempts", f"{entry.attempts} attempts; the last: {detail}")
            return
        delay = retry_delay(policy, entry.attempts, self._random)
        if session.window == 1:
            session.waiting_for.add(session)
            asyncio.get_running_loop().call_later(delay, self._released, session, entry)
        else:
            self._broker.release((entry,), delay=delay)

    def _released(self, session: Session, entry: Entry) -> None:
        session.waiting_for.discard(session)
        self._broker.release((entry,))
        self.again(session)

    def given_back(self, entries: list[Entry], *, client: bool) -> None:
        """A session is gone: no attempt, and in order before what waits; but not for ever."""
        back: list[Entry] = []
        for entry in entries:
            entry.redelivered = True
            entry.session = None
            if client and entry.deliveries >= MAX_DELIVERIES:
                detail = f"{entry.deliveries} sessions ended while they had it"
                self._ends.end(entry, End.FAILED, "deliveries", detail)
            else:
                back.append(entry)
        if back:
            self._broker.release(back)
