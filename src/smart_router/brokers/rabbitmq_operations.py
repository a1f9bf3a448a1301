"""What operators do with mailboxes in RabbitMQ, and what time does: look, purge, delete, let idle ones go."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from smart_router.brokers.base import End, Entry, MailboxPolicy, MailboxStatistics, OnRemoved, PutDone, PutResult
from smart_router.brokers.rabbitmq_channels import GONE, Feeds, Slot
from smart_router.brokers.rabbitmq_drain import Drain, Guard
from smart_router.brokers.rabbitmq_mailbox import Box, Lane, Out, slot_of
from smart_router.brokers.rabbitmq_names import NORMAL, Names
from smart_router.brokers.rabbitmq_publisher import Publisher
from smart_router.brokers.rabbitmq_subscription import RabbitSubscription
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.brokers.rabbitmq_wire import encode_token
from smart_router.errors import BrokerAway, Refused, RouterError

__all__ = ["Operations"]

_TOKEN_TTL: Final = 900_000
_PATIENCE: Final = 5.0
_LOOK: Final = 10_000
_UNKNOWN: Final = MailboxPolicy()


class Operations(ABC):
    """The half of the broker that no message passes through. See brokers/base.py for what each method promises."""

    boxes: dict[str, Box]
    feeds: Feeds
    topology: Topology
    publisher: Publisher
    names: Names
    order: itertools.count[int]
    on_removed: OnRemoved
    _dead_lane: Lane

    @abstractmethod
    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...

    @abstractmethod
    def watch(self, owner: Box | RabbitSubscription) -> None: ...

    @abstractmethod
    def now(self) -> float: ...

    @abstractmethod
    def end(self, entry: Entry, end: End, reason: str) -> None: ...

    @abstractmethod
    def make_box(self, address: str, policy: MailboxPolicy) -> Box: ...

    # Lanes

    async def make_lane(self, lane: Lane) -> None:
        """What a publish found missing."""
        if lane is self._dead_lane:
            await self.topology.dead_letters()
            return
        await self.topology.declare(lane)
        if lane.priority != NORMAL:
            await self._put_token(lane)

    async def _put_token(self, lane: Lane) -> None:
        """The mailbox's own queue says that there is this lane."""
        safe: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        box = lane.box
        properties = encode_token(lane.priority, box.policy.durable, _TOKEN_TTL, box.long_address)
        self.publisher.put(Out(None, box.lane(NORMAL), safe.set_result, properties, b""))
        result = await safe
        if result.refused:
            raise result.refused[box.address]

    def token_died(self, slot: Slot, address: str, priority: int) -> None:
        self.spawn(self._renew_token(slot, address, priority))

    async def _renew_token(self, slot: Slot, address: str, priority: int) -> None:
        """The lane goes if it is empty and unused, else it has a new token."""
        box = self.boxes.get(address) or self.make_box(address, _UNKNOWN)
        lane = box.lane(priority)
        if not await self._remove(lane):
            await self._put_token(lane)
        slot.feed.ack(slot)

    # Looking

    async def mailbox(self, address: str) -> MailboxStatistics | None:
        box = self.boxes.get(address)
        try:
            waiting = await self._waiting_there(box or Box(address, _UNKNOWN, self))
        except BrokerAway:
            waiting = box.count - box.local if box is not None else None
        if waiting is None:
            return None
        if box is None:
            return MailboxStatistics(address, waiting, 0, 0, 0, durable=True)
        if not box.pending:
            box.counted(waiting)
        waiting += box.local
        return MailboxStatistics(address, waiting, box.in_flight, box.bytes, len(box.subs), box.policy.durable)

    async def _waiting_there(self, box: Box) -> int | None:
        """In RabbitMQ; None: there is no such mailbox."""
        found = None
        for lane in list(box.lanes.values()):
            state = await self.topology.state(lane.queue)
            if state is not None:
                found = (found or 0) + state.messages
        return found

    async def mailboxes(self, prefix: str = "", after: str = "", limit: int = 100) -> list[MailboxStatistics]:
        """Those that this node has used since its start."""
        names = (name for name in self.boxes if name.startswith(prefix) and name > after)
        found = [await self.mailbox(name) for name in heapq.nsmallest(limit, names)]
        return [statistics for statistics in found if statistics is not None]

    async def peek(self, address: str, limit: int = 100, after: str = "") -> list[Entry]:
        """Of a mailbox that somebody reads: what waits in this node."""
        box = self.boxes.get(address) or Box(address, _UNKNOWN, self)
        entries = [_copy(entry) for sub in box.subs for entry in sub.all_waiting()]
        if not box.subs:
            await asyncio.gather(*box.leaving, return_exceptions=True)
            for lane in list(box.lanes.values()):
                entries += await self._look(box, lane)
        entries.sort(key=lambda entry: entry.message.at)
        places = [place for place, entry in enumerate(entries) if entry.message.id == after]
        start = places[0] + 1 if places else 0
        return entries[start : start + limit]

    async def _look(self, box: Box, lane: Lane) -> list[Entry]:
        """Takes all on a channel of its own, whose end gives all back at once, in order."""
        state = await self.topology.state(lane.queue)
        if state is None or not state.messages or state.consumers:
            return []
        feed = await self.feeds.alone()
        guard = Guard(box, min(state.messages, _LOOK), self.order)
        try:
            await feed.consume(guard, lane.queue, _LOOK)
            await guard.filled(_PATIENCE)
        finally:
            await feed.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):  # until all is back in its place
                await self._until_back(lane, len(guard.entries))
        return guard.entries

    async def _until_back(self, lane: Lane, messages: int) -> None:
        while (state := await self.topology.state(lane.queue)) is not None and state.messages < messages:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    # Ending

    async def purge(self, address: str) -> int:
        box = self.boxes.get(address) or Box(address, _UNKNOWN, self)
        return await self._end_all(box, End.DROPPED, "purged")

    async def _end_all(self, box: Box, end: End, reason: str) -> int:
        """What waits here, and what waits in RabbitMQ as far as it can be had."""
        ended = 0
        idle = 0
        while idle < 3:
            before = ended
            for sub in box.subs:
                for entry in sub.take_all():
                    self.end(entry, end, reason)
                    ended += 1
            waiting = await self._waiting_there(box)
            if waiting and not (box.subs and box.policy.exclusive):
                for lane in list(box.lanes.values()):
                    ended += await self._drain(box, lane, end, reason)
            elif not waiting and not box.local:
                break
            idle = idle + 1 if ended == before else 0
        if not box.pending:
            box.count = box.bytes = 0
        return ended

    async def _drain(self, box: Box, lane: Lane, end: End, reason: str) -> int:
        state = await self.topology.state(lane.queue)
        if state is None or not state.messages or (state.consumers and box.policy.exclusive):
            return 0
        feed = await self.feeds.pick()
        drain = Drain(box, state.messages, self, end, reason)
        await feed.consume(drain, lane.queue, 0)
        await drain.filled(_PATIENCE)
        await feed.cancel(drain)
        drain.give_tokens_back()
        return drain.ended

    async def requeue(self, address: str, message_id: str, to: str, policy: MailboxPolicy) -> bool:
        raise Refused("unsupported", "RabbitMQ cannot take one message out of a mailbox: purge it, or read it.")

    async def delete(self, address: str) -> bool:
        box = self.boxes.get(address)
        there = await self._waiting_there(box or Box(address, _UNKNOWN, self))
        if there is None:
            if box is not None and not box.pending:
                self._vanish(box)
            return False
        box = box or self.make_box(address, _UNKNOWN)
        await self._end_all(box, End.DROPPED, "purged")
        given = [entry for sub in (*box.subs, *box.kept) for entry in sub.held]
        box.deleted = True
        for sub in box.subs:
            sub.close(keep=True)
        for entry in given:
            self.end(entry, End.DROPPED, "purged")
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):  # until they are remembered
                while any(slot_of(entry).state != GONE for entry in given):  # noqa: ASYNC110 - seldom, and soon
                    await asyncio.sleep(0.01)
        await asyncio.gather(*box.leaving, return_exceptions=True)
        for lane in list(box.lanes.values()):
            await self.topology.delete(lane.queue)
        self._vanish(box)
        return True

    def _vanish(self, box: Box) -> None:
        box.deleted = True
        if self.boxes.get(box.address) is box:
            del self.boxes[box.address]
            self.on_removed(box.address)

    # Time

    def idle(self, box: Box) -> None:
        self.spawn(self._let_go(box))

    async def _let_go(self, box: Box) -> None:
        """An empty mailbox goes, one in memory with what it has; another is looked at again after its time."""
        box.used = self.now()
        await asyncio.gather(*box.leaving, return_exceptions=True)
        gone = False
        with suppress(RouterError):
            if box.subs or box.in_flight or box.pending:
                pass
            elif box.policy.durable:
                gone = all([await self._remove(lane) for lane in list(box.lanes.values())])
            else:
                await self._end_all(box, End.EXPIRED, "idle")
                gone = all([await self._remove(lane) for lane in list(box.lanes.values())])
        if gone and not box.subs:
            self._vanish(box)
        else:
            box.settle()

    async def _remove(self, lane: Lane) -> bool:
        """True: the queue is gone. RabbitMQ deletes quorum queues whatever is in them: so first it is unbound, and what
        comes all the same is taken by us and put again."""
        state = await self.topology.state(lane.queue)
        if state is None:
            return True
        if state.messages or state.consumers:
            return False
        feed = await self.feeds.alone()
        guard = Guard(lane.box, 1, self.order)
        try:
            await feed.consume(guard, lane.queue, _LOOK)
            await self.topology.unbind(lane)
            state = await self.topology.state(lane.queue)
            if state is not None and (state.messages or guard.entries or guard.tokens):
                await self.topology.bind(lane)
                return False
            await self.topology.delete(lane.queue)
        finally:
            await feed.close()
        for entry in guard.entries:
            self._put_again(lane, entry)
        return True

    def _put_again(self, lane: Lane, entry: Entry) -> None:
        self.put([Entry(entry.message, entry.address, lane.box.policy)])

    @abstractmethod
    def put(
        self, entries: Sequence[Entry], done: PutDone | None = None, dedup: tuple[str, str, bytes] | None = None
    ) -> None: ...


def _copy(entry: Entry) -> Entry:
    copy = Entry(entry.message, entry.address, entry.policy)
    copy.redelivered, copy.attempts, copy.deliveries = entry.redelivered, entry.attempts, entry.deliveries
    return copy
