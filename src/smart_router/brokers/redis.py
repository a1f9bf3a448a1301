"""The Redis broker: mailboxes that any number of nodes share.

put ──► Section of its mailbox ──► one script call per partition touched (redis_partition.py)
          handed out in the same call where this node reads and has credit ──► consumer
ack, release, grant, close ──► the same way, with the next call
another node's put ──► its script wakes this node up (pub/sub); a sweep each second finds what a lost wake-up left
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from smart_router.brokers.base import (
    BrokerStatistics,
    Capability,
    Consumer,
    Entry,
    MailboxPolicy,
    OnEnd,
    OnRemoved,
    PutDone,
    Subscription,
)
from smart_router.brokers.redis_answers import Answers
from smart_router.brokers.redis_box import ENDED, GONE, HELD, RELEASED, RedisSubscription, Slot
from smart_router.brokers.redis_operations import Operations
from smart_router.brokers.redis_options import RedisOptions
from smart_router.brokers.redis_partition import Partition
from smart_router.brokers.redis_partitions import Partitions
from smart_router.brokers.redis_persistence import look_at_clock, look_at_persistence
from smart_router.brokers.redis_puts import Puts
from smart_router.clock import Clock
from smart_router.errors import BrokerAway
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl

__all__ = ["RedisBroker", "RedisOptions"]


class RedisBroker(Operations):
    """One node's. See brokers/base.py for what each method promises. `partitions`: from `open` on."""

    def __init__(
        self,
        url: RedisUrl,
        clock: Clock,
        *,
        options: RedisOptions | None = None,
        on_end: OnEnd | None = None,
        on_warning: Callable[[str], None] = lambda _text: None,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        """`on_warning(text)`: what an operator should know of this Redis, once, at the start."""
        chosen = options or RedisOptions()
        self.options = msgspec.structs.replace(chosen, patience=min(chosen.patience, chosen.lease / 2))
        self.capabilities = frozenset(Capability)
        self.answers = Answers()
        self.answers.on_end = on_end or (lambda entry, _end, _reason: self.ack([entry]))
        self.url = url
        self._log = log or structlog.get_logger()
        self._on_warning = on_warning
        self._clock = clock
        self._tickets = 0
        self._is_open = False

    @property
    def on_end(self) -> OnEnd:
        return self.answers.on_end

    @on_end.setter
    def on_end(self, on_end: OnEnd) -> None:
        self.answers.on_end = on_end

    @property
    def on_removed(self) -> OnRemoved:
        return self.answers.on_removed

    @on_removed.setter
    def on_removed(self, on_removed: OnRemoved) -> None:
        self.answers.on_removed = on_removed

    # Life

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.answers.on_error = self._raised
        self.redis = Redis(
            self.url,
            name="smart-router",
            on_up=self._up,
            on_down=self._down,
            on_resubscribed=self._resubscribed,
            log=self._log,
        )
        self.partitions = Partitions(self.redis, self._clock, self.options, self.answers, self._log)
        self._puts = Puts(self.partitions, self.partitions.ledger, self._clock, self.options)
        self.partitions.subscribe()
        await self.redis.open()
        try:
            await look_at_persistence(self.redis, self._warn)
            await look_at_clock(self.redis, self._clock.wall_ms, self._warn)
            await self.partitions.begin()
        except BaseException:
            await self.redis.close()
            raise
        self._is_open = True

    def _up(self) -> None:
        self.partitions.up()

    def _down(self, reason: str) -> None:
        self.partitions.down(reason)

    def _resubscribed(self) -> None:
        """Wake-ups may have been lost meanwhile."""
        self.partitions.sweep()

    def _raised(self, error: Exception) -> None:
        """Somebody who was told of something failed: the event loop's handler shows it."""
        self._loop.call_exception_handler({"message": "a callback of the Redis broker raised", "exception": error})

    def _warn(self, text: str) -> None:
        self._log.warning("redis_setup", reason=text)
        self._on_warning(text)

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self.partitions.leave()
            self.partitions.stop()
            await self.redis.close()

    def crash(self) -> None:
        """Ends without a goodbye, as a killed process does."""
        self._is_open = False
        self.partitions.stop()
        self.redis.abort()

    # The way of a message

    def put(
        self,
        entries: Sequence[Entry],
        done: PutDone | None = None,
        dedup: tuple[str, str, bytes] | None = None,
    ) -> None:
        self._puts.put(entries, done, dedup)

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        return self._puts.recall(sender, key)

    def ack(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            slot = entry.slot
            if not isinstance(slot, Slot) or slot.state == GONE:
                continue
            box = slot.box
            part, state = box.partition, slot.state
            slot.state = GONE
            if slot.life != part.life:
                continue
            section = box.section or part.section(box)
            if state in (HELD, ENDED):
                part.held -= 1
                if slot.subscription is not None:
                    slot.subscription.held.pop(slot.number, None)
                section.acks.append(slot.number)
            elif state == RELEASED:
                if section.take_back(entry):
                    section.acks.append(slot.number)
                else:
                    section.withdrawn.append(slot.number)

    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None:
        due = self.partitions.now_ms() + delay * 1000 if delay > 0 else 0.0
        by_part: dict[Partition, list[Entry]] = {}
        for entry in entries:
            if isinstance(entry.slot, Slot):
                by_part.setdefault(entry.slot.box.partition, []).append(entry)
        for part, mine in by_part.items():
            part.release(mine, due)
            if due:
                self._loop.call_later(delay, part.sweep)

    async def subscribe(self, address: str, policy: MailboxPolicy, consumer: Consumer) -> Subscription:
        if not self.redis.up:
            raise BrokerAway(self.redis.trouble())
        box = self.partitions.box(address)
        if box.policy is not policy:
            self.partitions.adopt(box, policy)
        self._tickets += 1
        subscription = RedisSubscription(box, consumer, self._tickets)
        standing = subscription.standing = self._loop.create_future()
        box.partition.enter(subscription)
        try:
            async with asyncio.timeout(self.options.patience + self.url.timeout):
                await standing
        except BaseException as error:
            subscription.close()
            if isinstance(error, TimeoutError):
                raise BrokerAway(self.redis.trouble() or "Redis does not answer") from error
            raise
        subscription.standing = None
        return subscription

    # What it knows

    def exists(self, address: str) -> bool:
        box = self.partitions.boxes.get(address)
        return box is not None and box.exists

    def trouble(self) -> str:
        return self.partitions.trouble()

    def statistics(self) -> BrokerStatistics:
        partitions, ledger = self.partitions, self.partitions.ledger
        boxes = partitions.boxes.values()
        trouble = self.trouble()
        return BrokerStatistics(
            mailboxes=sum(box.exists for box in boxes),
            loaded=sum(bool(box.subscriptions) for box in boxes),
            waiting=sum(box.waiting for box in boxes),
            in_flight=sum(part.held for part in partitions.all),
            bytes_in_memory=ledger.bytes,
            puts=ledger.puts,
            elided=0,
            written=ledger.puts - ledger.refusals,
            commits=partitions.calls,
            refused=ledger.refusals,
            ended=self.answers.ended,
            healthy=not trouble,
            reason=trouble,
        )
