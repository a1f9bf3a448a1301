"""The RabbitMQ broker: `amqp://`, `amqps://`.

put ──► Publisher ══ exchange of the (sub-)endpoint ══► queue per lane of the mailbox ══► Tap ──► RabbitSubscription
          (rabbitmq_publisher.py)                                                             (rabbitmq_subscription.py)
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from smart_router.amqp import AmqpConnection, AmqpUrl
from smart_router.brokers.base import (
    BrokerStatistics,
    Capability,
    Consumer,
    End,
    Entry,
    MailboxPolicy,
    OnEnd,
    OnRemoved,
    Overflow,
    PutDone,
    PutResult,
    Subscription,
)
from smart_router.brokers.dedup import DedupWindow
from smart_router.brokers.rabbitmq_channels import BACK, ENDED, GONE, HELD, Feeds, Slot
from smart_router.brokers.rabbitmq_dead import DeadLetters
from smart_router.brokers.rabbitmq_limits import Limits
from smart_router.brokers.rabbitmq_mailbox import Box, Lane, Out, slot_of
from smart_router.brokers.rabbitmq_marks import Marks
from smart_router.brokers.rabbitmq_names import NORMAL, Names
from smart_router.brokers.rabbitmq_operations import Operations
from smart_router.brokers.rabbitmq_publisher import Publisher
from smart_router.brokers.rabbitmq_reading import Reading
from smart_router.brokers.rabbitmq_subscription import RabbitSubscription
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.brokers.rabbitmq_wire import encode
from smart_router.brokers.slot import SAFE, Group
from smart_router.clock import Clock, Deadlines
from smart_router.errors import RouterError

__all__ = ["RabbitBroker", "RabbitOptions"]

_CLAIMS: Final = frozenset({Capability.DURABLE, Capability.PRIORITY, Capability.MANY_NODES})
_CLOSING: Final = 5.0
_CHANNELS: Final = 1500  # RabbitMQ's own limit is 2047
_SHARED: Final = 80  # of those, for what readers share, and for calls


class RabbitOptions(msgspec.Struct, frozen=True):
    """`prefix`: of all names of this installation in its virtual host. `node`: shown in RabbitMQ's connection list."""

    prefix: str = "smart-router"
    node: str = "smart-router"


class RabbitBroker(Operations):
    """Mailboxes of any number of nodes. See brokers/base.py for what each method promises."""

    capabilities = _CLAIMS

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        options: RabbitOptions | None = None,
        on_end: OnEnd | None = None,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        self.options = options or RabbitOptions()
        self.on_end: OnEnd = on_end or (lambda entry, end, reason: self.ack([entry]))
        self.on_removed: OnRemoved = lambda address: None
        self.names = Names(self.options.prefix)
        self.marks = Marks()
        self.order = itertools.count(1)
        self.log = log or structlog.get_logger()
        self.boxes: dict[str, Box] = {}
        self.deadlines: Deadlines | None = None
        self._clock = clock
        self._dead_lane = Lane(Box("#dead", MailboxPolicy(), self), NORMAL, self.names)
        self._dead_lane.exchange = self.names.dead.encode()
        self._dedup = DedupWindow()
        self._tasks: set[asyncio.Task[None]] = set()
        self._puts = self._refused = self._ended = 0
        parsed, node = AmqpUrl(url), self.options.node
        if "channel_max=" not in url:
            parsed.channel_max = _CHANNELS
        self._publishing = AmqpConnection(
            parsed,
            f"{node} publishes",
            random.SystemRandom(),
            on_up=self._publishing_up,
            on_down=lambda reason: None,
            on_writable=self._writable,
        )
        self._consuming = AmqpConnection(
            parsed, f"{node} consumes", random.SystemRandom(), on_up=self._consuming_up, on_down=self._consuming_down
        )
        self.topology = Topology(self._consuming, self.names)
        self.feeds = Feeds(self._consuming, self.spawn, own=max(0, parsed.channel_max - _SHARED))
        self.publisher = Publisher(
            self._publishing,
            self,
            make=self.make_lane,
            exchange=self.topology.exchange,
            has_exchange=self.topology.has_exchange,
        )
        self._limits = Limits(self, self.topology)
        self._dead = DeadLetters(self)
        self.reading = Reading(self)

    async def open(self) -> None:
        self.deadlines = Deadlines(self._clock, asyncio.get_running_loop().call_at)
        await self._consuming.open()
        try:
            await self._publishing.open()
        except BaseException:
            await self._consuming.close()
            raise

    async def close(self) -> None:
        for box in list(self.boxes.values()):
            for sub in box.subs:
                sub.close()
        await self.publisher.settled(_CLOSING)
        self.publisher.close()
        self.feeds.flush()
        await self._publishing.close()
        await self._consuming.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.deadlines is not None:
            self.deadlines.close()

    def _writable(self) -> None:
        self.publisher.writable()

    async def _publishing_up(self) -> None:
        await self.publisher.up()

    async def _consuming_up(self) -> None:
        self.topology.forget()
        await self.topology.dead_letters()
        await self._dead.consume()
        await self.reading.resume()

    def _consuming_down(self, reason: str) -> None:
        """Each channel has told its consumers."""

    # The way of a message

    def put(
        self,
        entries: Sequence[Entry],
        done: PutDone | None = None,
        dedup: tuple[str, str, bytes] | None = None,
    ) -> None:
        if dedup is not None:
            self._put_once(entries, done, dedup)
        elif done is None or len(entries) == 1:
            self._put_all(entries, done)
        elif entries:
            self._put_all(entries, Group(done, len(entries)))
        else:
            done(SAFE)

    def _put_all(self, entries: Sequence[Entry], done: PutDone | None) -> None:
        self._puts += len(entries)
        refusal = self.publisher.refusal()
        for entry in entries:
            size = entry.message.size
            error = refusal or self.publisher.room(size)
            if error is not None:
                self.refuse(entry, error, done)
                continue
            box = self.boxes.get(entry.address)
            if box is None:
                box = self.make_box(entry.address, entry.policy)
            elif box.policy is not entry.policy:
                box.policy = entry.policy
            box.touch()
            policy = entry.policy
            if policy.overflow is not Overflow.DROP_OLDEST or 0 < policy.max_bytes < size:
                self._limits.put(box, entry, size, done)
            else:
                self.publish(box, entry, size, done)

    def publish(self, box: Box, entry: Entry, size: int, done: PutDone | None) -> None:
        """To its lane."""
        message = entry.message
        lane = box.lanes.get(message.priority) or box.lane(message.priority)
        body = b"".join((message.body, *message.attachments)) if message.attachments else message.body
        properties = encode(message, entry.policy.durable, self.ttl(entry), address=box.long_address)
        box.came(size)
        self.publisher.put(Out(entry, lane, done, properties, body))

    def ttl(self, entry: Entry) -> int:
        """RabbitMQ expires at the head of a queue; we look again when it is delivered."""
        expires_at = entry.message.expires_at
        return min(max(1, expires_at - self.wall_ms()), 2**32 - 1) if expires_at else 0

    def drop(self, entry: Entry, done: PutDone | None) -> None:
        """To the dead letters, safe there before the sender is told."""
        message = entry.message
        body = b"".join((message.body, *message.attachments))
        end = (End.DROPPED.value, "overflow")
        properties = encode(message, True, 0, address=entry.address, end=end)
        self.publisher.put(Out(entry, self._dead_lane, done, properties, body))

    def refuse(self, entry: Entry, error: RouterError, done: PutDone | None) -> None:
        self._refused += 1
        if done is not None:
            done(PutResult({entry.address: error}))
        else:
            self.on_end(entry, End.REFUSED, error.code)

    def _put_once(self, entries: Sequence[Entry], done: PutDone | None, dedup: tuple[str, str, bytes]) -> None:
        sender, own, answer = dedup

        def put(finished: PutDone) -> None:
            group = Group(finished, len(entries) + 1)
            self._put_all(entries, group)
            group(SAFE)

        self._dedup.once((sender, own), answer, done or partial(self._end_refused, entries), put, self.now)

    def _end_refused(self, entries: Sequence[Entry], result: PutResult) -> None:
        """Nobody waits for the answer: a refusal is an end."""
        for entry in entries:
            if (error := result.refused.get(entry.address)) is not None:
                self.on_end(entry, End.REFUSED, error.code)

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        return self._dedup.recall((sender, key), self.now())

    def ack(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            slot = entry.slot
            if not isinstance(slot, Slot) or slot.state == GONE:
                continue
            state, slot.state = slot.state, GONE
            owner = slot.owner
            if state == HELD and isinstance(owner, RabbitSubscription):
                owner.held.pop(entry, None)
            if state == BACK or slot.feed.dead:
                self.marks.confirmed(entry)
            else:
                slot.feed.ack(slot)

    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None:
        by_sub: dict[RabbitSubscription, list[Entry]] = {}
        for entry in entries:
            slot = entry.slot
            if isinstance(slot, Slot) and slot.state == HELD and isinstance(slot.owner, RabbitSubscription):
                by_sub.setdefault(slot.owner, []).append(entry)
        for sub, mine in by_sub.items():
            self.reading.release(sub, mine, delay)

    # What its parts need

    def now(self) -> float:
        return self._clock.monotonic()

    def end(self, entry: Entry, end: End, reason: str) -> None:
        """It waits no more; RabbitMQ keeps it until it is remembered elsewhere."""
        slot = slot_of(entry)
        slot.state = ENDED
        self._ended += 1
        box = self.boxes.get(entry.address)
        if box is not None:
            box.left(entry.message.size)
        self.on_end(entry, end, reason)

    def wall_ms(self) -> int:
        return self._clock.wall_ms()

    def spawn(self, work: Coroutine[Any, Any, None]) -> object:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, RouterError):
            self.log.warning("rabbitmq_failed", error=error.message)
        else:
            self.log.error("rabbitmq_failed", exc_info=error)

    def watch(self, owner: Box | RabbitSubscription) -> None:
        assert self.deadlines is not None
        self.deadlines.watch(owner)

    def make_box(self, address: str, policy: MailboxPolicy) -> Box:
        box = self.boxes[address] = Box(address, policy, self)
        box.settle()
        return box

    async def subscribe(self, address: str, policy: MailboxPolicy, consumer: Consumer) -> Subscription:
        box = self.boxes.get(address) or self.make_box(address, policy)
        box.policy = policy
        return await self.reading.subscribe(box, consumer)

    # What it knows

    def exists(self, address: str) -> bool:
        return address in self.boxes

    def trouble(self) -> str:
        return self._publishing.trouble() or self._consuming.trouble()

    def statistics(self) -> BrokerStatistics:
        boxes = self.boxes.values()
        trouble = self.trouble()
        return BrokerStatistics(
            mailboxes=len(boxes),
            loaded=sum(bool(box.subs) for box in boxes),
            waiting=sum(box.count for box in boxes),
            in_flight=self.feeds.in_flight,
            bytes_in_memory=self.publisher.bytes,
            puts=self._puts,
            elided=0,
            written=self.publisher.confirmed,
            commits=self._publishing.statistics().confirmed,
            refused=self._refused,
            ended=self._ended,
            healthy=not trouble,
            reason=trouble,
        )
