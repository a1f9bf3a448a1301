"""The channels on which this node consumes: few, shared by all its consumers, with acknowledgements in batches.

Tap (a consumer of one queue) ─┐                         acks of one turn of the event loop:
Tap ───────────────────────────┼─► Feed (one channel) ─► one `multiple` for what is contiguous, single ones behind
Tap ───────────────────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

import msgspec

from smart_router.amqp import AmqpConnection, Channel
from smart_router.errors import StorageError

__all__ = ["BACK", "ENDED", "GONE", "HELD", "WAITING", "Feed", "Feeds", "Slot", "Taker"]

WAITING: Final = 0
HELD: Final = 1
ENDED: Final = 2
GONE: Final = 3
BACK: Final = 4


class Taker(Protocol):
    """One consumer of one queue."""

    feed: Feed | None
    tag: str

    def deliver(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None: ...

    def lost(self) -> None:
        """Its channel is gone, or the broker ended it: delivery tags mean nothing now, if `feed.dead`."""


class Slot(msgspec.Struct, eq=False):
    """What the provider knows of one delivered entry. `order`: its place among all that came here.

    `owner`: a subscription, or None."""

    feed: Feed
    tag: int
    owner: object
    order: int
    state: int = WAITING


class Feed:
    """One life of one channel. `out`: what is unacknowledged on it, by delivery tag, ascending."""

    __slots__ = (
        "_acked",
        "_prefetch",
        "channel",
        "dead",
        "is_own",
        "lock",
        "loop",
        "on_done",
        "out",
        "retiring",
        "takers",
    )

    def __init__(
        self, connection: AmqpConnection, on_lost: Callable[[Feed], None], on_done: Callable[[Feed], None]
    ) -> None:
        self.channel: Channel = connection.channel(
            on_closed=lambda error: self._closed(error, on_lost), on_cancel=self._cancelled
        )
        self.out: dict[int, Slot] = {}
        self.takers: dict[str, Taker] = {}
        self.dead = False
        self.is_own = False
        self.retiring = False
        self.on_done = on_done
        self.lock = asyncio.Lock()
        self.loop = asyncio.get_running_loop()
        self._acked: list[int] = []
        self._prefetch = 0

    async def consume(self, taker: Taker, queue: str, prefetch: int) -> None:
        async with self.lock:
            if self._prefetch != prefetch:
                await self.channel.qos(prefetch)
                self._prefetch = prefetch
            taker.feed = self
            taker.tag = await self.channel.consume(queue, taker.deliver)
            self.takers[taker.tag] = taker

    async def cancel(self, taker: Taker) -> None:
        """No delivery after this; what it has stays out."""
        self.takers.pop(taker.tag, None)
        if self.dead or not taker.tag:
            return
        await self.channel.cancel(taker.tag)

    # Acknowledgements

    def ack(self, slot: Slot) -> None:
        if not self._acked:
            self.loop.call_soon(self.flush)
        self._acked.append(slot.tag)

    def flush(self) -> None:
        tags, out = self._acked, self.out
        if not tags:
            return
        self._acked = []
        channel = self.channel
        if len(tags) == len(out):
            channel.ack(max(tags), len(tags) > 1)
            out.clear()
            self._close_if_done()
            return
        tags.sort()
        first = 0
        for tag in out:
            if first == len(tags) or tags[first] != tag:
                break
            first += 1
        if first:
            channel.ack(tags[first - 1], first > 1)
        for tag in tags[first:]:
            channel.ack(tag)
        for tag in tags:
            del out[tag]
        self._close_if_done()

    def give_back(self, slots: Iterable[Slot]) -> None:
        """In their order: RabbitMQ puts what comes back before what waits, in the order of its coming back."""
        self.flush()
        for slot in sorted(slots, key=lambda slot: slot.order):
            if self.out.pop(slot.tag, None) is not None:
                slot.state = BACK
                self.channel.nack(slot.tag)
        self._close_if_done()

    # Ends

    def _cancelled(self, tag: str) -> None:
        taker = self.takers.pop(tag, None)
        if taker is not None:
            taker.lost()

    def _closed(self, error: StorageError, on_lost: Callable[[Feed], None]) -> None:
        self.dead = True
        self._acked = []
        self.out = {}
        takers, self.takers = list(self.takers.values()), {}
        on_lost(self)
        for taker in takers:
            taker.lost()

    async def close(self) -> None:
        """All that is unacknowledged goes back at once, in order, and with it go its consumers."""
        self.flush()
        self.dead = True
        out, self.out = self.out, {}
        for slot in out.values():
            if slot.state != GONE:
                slot.state = BACK
        await self.channel.close()

    def retire(self) -> None:
        """Its consumers have gone: it is closed when nothing is unacknowledged any more."""
        self.retiring = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.retiring and not self.out and not self.dead:
            self.dead = True
            self.on_done(self)


class Feeds:
    """Channels that consumers share, at most `limit` of them, and at most `own` that belong to one reader each.

    A shared channel gets `share` consumers before the next is opened, later ones where fewest are. A reader with a
    channel of its own leaves by closing it: RabbitMQ does all that follows in one step.
    """

    def __init__(
        self,
        connection: AmqpConnection,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        own: int,
        limit: int = 64,
        share: int = 16,
    ) -> None:
        self._connection = connection
        self._spawn = spawn
        self._limit = limit
        self._share = share
        self._most = own
        self._feeds: list[Feed] = []
        self._own: set[Feed] = set()
        self._opening = asyncio.Lock()

    async def pick(self) -> Feed:
        """One with room. BrokerAway: there is no connection."""
        async with self._opening:
            if self._feeds:
                least = min(self._feeds, key=lambda feed: len(feed.takers))
                if len(least.takers) < self._share or len(self._feeds) >= self._limit:
                    return least
            feed = await self.alone()
            self._feeds.append(feed)
            return feed

    async def own(self) -> Feed:
        """A channel for one reader, as long as there are some left; else a shared one."""
        if len(self._own) >= self._most:
            return await self.pick()
        feed = await self.alone()
        feed.is_own = True
        self._own.add(feed)
        return feed

    async def alone(self) -> Feed:
        """A channel for one purpose; who asked closes it."""
        feed = Feed(self._connection, self._lost, self._done)
        await feed.channel.open()
        return feed

    async def give_up(self, feed: Feed) -> None:
        self._own.discard(feed)
        await feed.close()

    def _done(self, feed: Feed) -> None:
        self._own.discard(feed)
        self._spawn(feed.channel.close())

    def _lost(self, feed: Feed) -> None:
        self._own.discard(feed)
        if feed in self._feeds:
            self._feeds.remove(feed)

    def flush(self) -> None:
        for feed in (*self._feeds, *self._own):
            feed.flush()

    @property
    def in_flight(self) -> int:
        return sum(slot.state == HELD for feed in (*self._feeds, *self._own) for slot in feed.out.values())
