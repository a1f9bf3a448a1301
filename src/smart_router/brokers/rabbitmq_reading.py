"""Readers of this node: their consumers begin, end, come back after an outage, and find the lanes of their mailbox.

A mailbox's queue carries, besides messages, one token per further lane. Who is given the token consumes the lane, and
gives the token back with its messages: so an exclusive mailbox's lanes have the same reader as its queue.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog

from smart_router.amqp import ChannelClosed
from smart_router.brokers.base import Consumer, End, Entry
from smart_router.brokers.rabbitmq_channels import GONE, HELD, Feed, Feeds, Slot
from smart_router.brokers.rabbitmq_mailbox import Box, Lane, slot_of
from smart_router.brokers.rabbitmq_marks import Marks
from smart_router.brokers.rabbitmq_names import NORMAL
from smart_router.brokers.rabbitmq_subscription import RabbitSubscription
from smart_router.brokers.rabbitmq_tap import Tap
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.errors import BrokerAway, RouterError

__all__ = ["TOKEN_HELD", "Reading", "ReadingHost"]

TOKEN_HELD: Final = 480.0  # s

_LANE_PATIENCE: Final = 1.0
_AT_ONCE: Final = 16
_TRIES: Final = 3
_AT_A_TIME: Final = 16
_LOOKS: Final = 5
_PAUSE: Final = 0.002
_TURN: Final = 0.03  # s, in which something of what the reader before gives back is here
_TURNS: Final = 10


class ReadingHost(Protocol):
    marks: Marks
    order: itertools.count[int]
    boxes: dict[str, Box]
    feeds: Feeds
    topology: Topology
    log: structlog.typing.FilteringBoundLogger

    def now(self) -> float: ...

    def wall_ms(self) -> int: ...

    def end(self, entry: Entry, end: End, reason: str) -> None: ...

    def watch(self, owner: Box | RabbitSubscription) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...


class Reading:
    """Implements what subscriptions (Readers) and taps (TapHost) need."""

    def __init__(self, host: ReadingHost) -> None:
        self._host = host
        self.marks = host.marks
        self.order = host.order
        self.now = host.now
        self.wall_ms = host.wall_ms
        self.end = host.end
        self.watch = host.watch

    async def subscribe(self, box: Box, consumer: Consumer) -> RabbitSubscription:
        lane = box.lane(NORMAL)
        while box.leaving:
            await asyncio.gather(*box.leaving, return_exceptions=True)
        state = await self._host.topology.declare(lane)
        sub = RabbitSubscription(box, consumer, self)
        box.subs = (*box.subs, sub)
        box.deadline = None
        if not box.pending:
            box.counted(state.messages)
        if box.policy.exclusive:
            try:
                await self._consume(sub, lane, in_line=state.consumers > 0)
            except RouterError:
                sub.close()
                raise
        return sub

    # Consumers

    def start(self, sub: RabbitSubscription, prefetch: int) -> None:
        if not sub.starting:
            sub.starting = True
            self._host.spawn(self._start(sub))

    async def _start(self, sub: RabbitSubscription) -> None:
        """Also with another prefetch: then what was prefetched goes back first."""
        prefetch, feed = 0, None
        try:
            while sub.prefetch not in (0, prefetch) and not sub.closed:
                prefetch = sub.prefetch
                if sub.taps:
                    feed = sub.taps[NORMAL].feed if NORMAL in sub.taps else None
                    taps, sub.taps = list(sub.taps.values()), {}
                    self.leave(sub, taps, sub.take_unseen())
                    await asyncio.gather(*sub.box.leaving, return_exceptions=True)
                await self._consume(sub, sub.box.lane(NORMAL), feed=feed)
        except BrokerAway:
            pass  # with the connection it begins again
        finally:
            sub.starting = False

    async def _consume(
        self,
        sub: RabbitSubscription,
        lane: Lane,
        *,
        token: Slot | None = None,
        feed: Feed | None = None,
        in_line: bool = False,
    ) -> Tap:
        """Made again if it is gone by now. `feed`: to come after what was done there."""
        for attempt in range(1, _TRIES + 1):
            tap = sub.taps[lane.priority] = Tap(sub, lane, self)
            tap.token = token
            tap.in_line = in_line
            try:
                if feed is None or feed.dead:
                    feed = await self._feed_for(sub)
                await feed.consume(tap, lane.queue, sub.prefetch)
            except ChannelClosed:
                if attempt == _TRIES:
                    raise
                await self._host.topology.declare(lane)
            except BrokerAway:
                if sub.taps.get(lane.priority) is tap:
                    del sub.taps[lane.priority]  # who begins again when the connection is back must not find it
                raise
            else:
                return tap
            finally:
                tap.begun.set()
        raise AssertionError("unreachable")

    async def _feed_for(self, sub: RabbitSubscription) -> Feed:
        """An exclusive mailbox is passed on without a gap if its reader has a channel of its own, for all its lanes."""
        if not sub.box.policy.exclusive:
            return await self._host.feeds.pick()
        for tap in sub.taps.values():
            if tap.feed is not None and tap.feed.is_own and not tap.feed.dead:
                return tap.feed
        return await self._host.feeds.own()

    def leave(self, sub: RabbitSubscription, taps: list[Tap], back: list[Entry]) -> None:
        """The consumers end first, then all goes back, ascending: nobody here gets it again."""
        box = sub.box
        slots = [tap.token for tap in taps if tap.token is not None]
        for entry in back:
            slot = slot_of(entry)
            seen = slot.state == HELD
            if seen:
                box.came(entry.message.size)
            self.marks.gone_back(entry, seen)
            slots.append(slot)
        for tap in taps:
            tap.left = True
        if taps:
            left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            box.leaving.add(left)
            left.add_done_callback(box.leaving.discard)
            whole = sub.closed and not sub.held
            self._host.spawn(self._leave(taps, slots, left, whole=whole))
        elif slots:
            self._host.spawn(self._return(slots, box.lane(NORMAL).queue))
        if sub.closed:
            self._left(sub)

    async def _leave(self, taps: list[Tap], slots: list[Slot], left: asyncio.Future[None], *, whole: bool) -> None:
        """`whole`: nothing of it stays out."""
        try:
            for tap in taps:
                await tap.begun.wait()
            own = {tap.feed for tap in taps if tap.feed is not None and tap.feed.is_own and not tap.feed.dead}
            if whole and own:
                for feed in own:
                    await self._host.feeds.give_up(feed)
            await self._cancel_and_return(taps, slots)
            for feed in own:
                feed.retire()
        finally:
            left.cancel()

    async def _cancel_and_return(self, taps: list[Tap], slots: list[Slot]) -> None:
        late = [tap.late for tap in taps]
        for tap in taps:
            if tap.feed is None:
                continue
            with suppress(BrokerAway, ChannelClosed):
                await tap.feed.cancel(tap)
        await self._return(list(itertools.chain(slots, *late)), taps[0].lane.queue)

    async def _return(self, slots: list[Slot], queue: str) -> None:
        """A few at a time: RabbitMQ 3.10 loses the order of more than 32 commands on their way to one quorum queue."""
        slots = sorted((slot for slot in slots if not slot.feed.dead), key=lambda slot: slot.order)
        while slots:
            some, slots = slots[:_AT_A_TIME], slots[_AT_A_TIME:]
            before = await self._host.topology.state(queue) if slots else None
            _give_back(some)
            if before is not None:
                await self._back(queue, before.messages + len(some))

    async def _back(self, queue: str, messages: int) -> None:
        """Returns when so many wait there, or when somebody else takes them."""
        for _ in range(_LOOKS):
            state = await self._host.topology.state(queue)
            if state is None or state.messages >= messages:
                return
            await asyncio.sleep(_PAUSE)

    def _left(self, sub: RabbitSubscription) -> None:
        box = sub.box
        box.subs = tuple(other for other in box.subs if other is not sub)
        box.kept = tuple(other for other in box.kept if other.held)
        if sub.held:
            box.kept = (*box.kept, sub)
        box.used = self.now()
        box.settle()

    # Back

    def release(self, sub: RabbitSubscription, entries: list[Entry], delay: float) -> None:
        """To a reader here, if it has its turn; else back to RabbitMQ."""
        box = sub.box
        back = []
        for entry in entries:
            slot = slot_of(entry)
            sub.held.pop(entry, None)
            sub.lost.pop(entry.message.id, None)
            entry.redelivered = True
            if slot.feed.dead:
                self.marks.gone_back(entry, seen=True)
                slot.state = GONE
            elif box.deleted:
                self.end(entry, End.DROPPED, "purged")
            else:
                box.came(entry.message.size)
                back.append(entry)
        taker = self._taker(sub)
        if taker is None:
            for entry in back:
                self.marks.gone_back(entry, seen=True)
            self._host.spawn(self._return([slot_of(entry) for entry in back], box.lane(NORMAL).queue))
        elif delay > 0:
            taker.put_later(back, delay)
        else:
            taker.put_front(back)

    def _taker(self, sub: RabbitSubscription) -> RabbitSubscription | None:
        if not sub.closed:
            return sub
        exclusive = sub.box.policy.exclusive
        for other in sub.box.subs:
            if other.has_turn if exclusive else other.credit:
                return other
        return None

    def turn_came(self, tap: Tap) -> None:
        tap.sub.opening += 1
        asyncio.get_running_loop().call_later(_TURN, self._turn, tap, 0, _TURNS)

    def _turn(self, tap: Tap, before: int, turns: int) -> None:
        """While something comes back, it is waited for. Then all is put in the order of its making."""
        sub, arrived = tap.sub, tap.arrived or []
        returned = sum(redelivered for redelivered, _ in arrived)
        if returned > before and turns and not sub.closed and len(arrived) < sub.prefetch:
            asyncio.get_running_loop().call_later(_TURN, self._turn, tap, returned, turns - 1)
            return
        tap.arrived = None
        sub.opening -= 1
        if sub.closed:
            for _, entry in arrived:
                self.marks.gone_back(entry, seen=False)
            self._host.spawn(self._return([slot_of(entry) for _, entry in arrived], tap.lane.queue))
            return
        for _, entry in sorted(arrived, key=_made):
            slot_of(entry).order = next(self.order)
            sub.take(entry, tap.lane.priority)
        sub.pump()

    # Lanes

    def lane_found(self, tap: Tap, slot: Slot, priority: int) -> None:
        sub = tap.sub
        known = sub.taps.get(priority)
        if tap.left:
            slot.feed.give_back([slot])
        elif known is not None:
            before = known.token
            self._hold(known, slot)
            if before is not None and not before.feed.dead:
                before.feed.ack(before)
        else:
            sub.opening += 1
            self._host.spawn(self._open_lane(sub, slot, priority))

    def _hold(self, tap: Tap, token: Slot) -> None:
        """Not for longer than RabbitMQ lets anybody hold a message: then it is given back, and comes again."""
        tap.token = token
        asyncio.get_running_loop().call_later(TOKEN_HELD, self._renew, tap, token)

    def _renew(self, tap: Tap, token: Slot) -> None:
        if tap.token is token and not tap.left and not token.feed.dead:
            tap.token = None
            token.feed.give_back([token])

    async def _open_lane(self, sub: RabbitSubscription, token: Slot, priority: int) -> None:
        """What waits there first is waited for, so that it is considered before what waits in lower lanes."""
        lane = sub.box.lane(priority)
        try:
            state = await self._host.topology.state(lane.queue)
            if state is None:
                token.feed.ack(token)
            elif sub.closed:
                _give_back([token])
            else:
                tap = await self._consume(sub, lane, token=token)
                self._hold(tap, token)
                if state.messages and not tap.active:
                    tap.first = asyncio.Event()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(tap.first.wait(), _LANE_PATIENCE)
        finally:
            sub.opening -= 1
            sub.pump()

    # Outages

    def tap_lost(self, tap: Tap) -> None:
        sub, feed = tap.sub, tap.feed
        assert feed is not None
        if sub.taps.get(tap.lane.priority) is tap:
            del sub.taps[tap.lane.priority]
        if feed.dead:
            sub.disconnected(feed)
        if tap.lane.priority == NORMAL or (tap.token is not None and not tap.token.feed.dead):
            self._host.spawn(self._recover(sub, tap.lane, tap.token))

    async def _recover(self, sub: RabbitSubscription, lane: Lane, token: Slot | None = None) -> None:
        if sub.closed or lane.priority in sub.taps or not sub.prefetch:
            return
        with suppress(BrokerAway):
            state = await self._host.topology.declare(lane)
            if lane.priority not in sub.taps:
                in_line = sub.box.policy.exclusive and state.consumers > 0
                await self._consume(sub, lane, token=token, in_line=in_line)

    async def resume(self) -> None:
        """The connection is back: every reader consumes again."""
        subs = [sub for box in self._host.boxes.values() for sub in box.subs]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def again(sub: RabbitSubscription) -> None:
            async with limit:
                try:
                    await self._recover(sub, sub.box.lane(NORMAL))
                except RouterError as error:
                    self._host.log.error("mailbox_not_read", address=sub.box.address, error=error.message)

        for sub in subs:
            self._host.spawn(again(sub))


def _made(item: tuple[bool, Entry]) -> tuple[int, int, str]:
    """Ids are made in the order of time, by each node."""
    message = item[1].message
    return message.at, len(message.id), message.id


def _give_back(slots: Iterable[Slot]) -> None:
    by_feed: dict[Feed, list[Slot]] = {}
    for slot in slots:
        if not slot.feed.dead:
            by_feed.setdefault(slot.feed, []).append(slot)
    for feed, mine in by_feed.items():
        feed.give_back(mine)
