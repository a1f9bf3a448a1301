"""Consumers for a moment: one that only looks, one that ends what it gets."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Protocol

from smart_router.brokers.base import End, Entry
from smart_router.brokers.rabbitmq_channels import Feed, Slot
from smart_router.brokers.rabbitmq_mailbox import Box
from smart_router.brokers.rabbitmq_tap import foreign
from smart_router.brokers.rabbitmq_wire import decode

__all__ = ["Drain", "DrainHost", "Guard"]


class Guard:
    """Collects; its channel's end gives all back. `filled` when so many have come."""

    def __init__(self, box: Box, expected: int, order: itertools.count[int]) -> None:
        self.feed: Feed | None = None
        self.tag = ""
        self.entries: list[Entry] = []
        self.tokens: list[Slot] = []
        self._box = box
        self._expected = expected
        self._order = order
        self._full = asyncio.Event()

    def deliver(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        assert self.feed is not None
        slot = self.feed.out[tag] = Slot(self.feed, tag, None, next(self._order))
        arrival = decode(properties, body)
        self._expected -= 1
        box = self._box
        if arrival is not None and arrival.meta.lane >= 0:
            self.tokens.append(slot)
            box.lane(arrival.meta.lane)
        else:
            message = arrival.message if arrival is not None else foreign(body, 0)
            self._got(Entry(message, box.address, box.policy, redelivered, slot=slot), known=arrival is not None)
        if self._expected <= 0:
            self._full.set()

    def _got(self, entry: Entry, *, known: bool) -> None:
        self.entries.append(entry)

    async def filled(self, patience: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._full.wait(), patience)

    def lost(self) -> None:
        self._full.set()


class DrainHost(Protocol):
    order: itertools.count[int]

    def end(self, entry: Entry, end: End, reason: str) -> None: ...


class Drain(Guard):
    """Ends all it gets; tokens of lanes go back."""

    def __init__(self, box: Box, expected: int, host: DrainHost, end: End, reason: str) -> None:
        super().__init__(box, expected, host.order)
        self.ended = 0
        self._host = host
        self._end = end
        self._reason = reason

    def _got(self, entry: Entry, *, known: bool) -> None:
        self.ended += 1
        if known:
            self._host.end(entry, self._end, self._reason)
        else:
            self._host.end(entry, End.FAILED, "foreign")

    def give_tokens_back(self) -> None:
        if self.feed is not None and not self.feed.dead:
            self.feed.give_back(self.tokens)
