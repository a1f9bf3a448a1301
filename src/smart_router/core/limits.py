"""Rates and numbers that a sender may not exceed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from smart_router.clock import Clock
from smart_router.core.endpoints import Endpoint
from smart_router.errors import Refused

__all__ = ["NewMailboxes", "Rate"]

_MINUTE: Final = 60.0


class Rate:
    """Messages and bytes a second of one session; a second's worth may come at once, or one message. 0: no limit."""

    __slots__ = ("_at", "_burst", "_bytes", "_clock", "_left", "_left_bytes", "_messages")

    def __init__(self, messages: float, size: float, clock: Clock) -> None:
        self._messages = messages
        self._bytes = size
        self._burst = max(1.0, messages)
        self._left = self._burst
        self._left_bytes = size
        self._clock = clock
        self._at = clock.monotonic()

    def take(self, size: int) -> None:
        """Raises Refused (`rate_limited`) when this one is too much."""
        now = self._clock.monotonic()
        passed = now - self._at
        self._at = now
        self._left = min(self._burst, self._left + passed * self._messages)
        self._left_bytes = min(self._bytes, self._left_bytes + passed * self._bytes)
        if self._messages and self._left < 1:
            limit = self._messages
            raise Refused("rate_limited", f"More than {limit:g} messages a second: send slower.", limit=limit)
        if self._bytes and self._left_bytes < min(size, self._bytes):
            limit = self._bytes
            raise Refused("rate_limited", f"More than {limit:g} bytes a second: send slower.", limit=limit)
        self._left -= 1
        self._left_bytes -= size


class NewMailboxes:
    """How many mailboxes an endpoint has, and how many new ones a sender has caused in this minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._per_endpoint: Counter[str] = Counter()
        self._per_sender: Counter[str] = Counter()
        self._minute = clock.monotonic()

    def open(self, sender: str, endpoints: Sequence[Endpoint]) -> None:
        """One more of each. Raises Refused (`too_many_mailboxes`): then of none."""
        now = self._clock.monotonic()
        if now - self._minute >= _MINUTE:
            self._minute = now
            self._per_sender.clear()
        wanted = Counter(endpoint.name for endpoint in endpoints)
        for endpoint in endpoints:
            self._check_rate(sender, endpoint, len(endpoints))
            self._check_number(endpoint, wanted[endpoint.name])
        self._per_sender[sender] += len(endpoints)
        self._per_endpoint += wanted

    def join(self, address: str, endpoint: Endpoint) -> None:
        """Somebody subscribes a mailbox that is not there yet. Raises Refused (`too_many_mailboxes`)."""
        self._check_number(endpoint, 1)
        self._per_endpoint[endpoint.name] += 1

    def _check_number(self, endpoint: Endpoint, more: int) -> None:
        limit = endpoint.settings.max_mailboxes
        if limit and self._per_endpoint[endpoint.name] + more > limit:
            raise Refused(
                "too_many_mailboxes", f"Endpoint {endpoint.name!r} has {limit} mailboxes, its limit.", limit=limit
            )

    def _check_rate(self, sender: str, endpoint: Endpoint, more: int) -> None:
        limit = endpoint.settings.new_mailboxes_per_minute
        if limit and self._per_sender[sender] + more > limit:
            raise Refused("too_many_mailboxes", f"More than {limit} new mailboxes a minute: wait.", limit=limit)

    def count(self, address: str) -> None:
        """A mailbox that was there already when the node started."""
        self._per_endpoint[address.partition("/")[0]] += 1

    def removed(self, address: str) -> None:
        """brokers.base.OnRemoved."""
        self._per_endpoint[address.partition("/")[0]] -= 1
