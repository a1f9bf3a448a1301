"""All partitions of one node: when each calls, what time and pub/sub bring, and how Redis is doing."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from smart_router.brokers.base import Entry, MailboxPolicy, PutDone
from smart_router.brokers.redis_answers import Answers
from smart_router.brokers.redis_box import Box
from smart_router.brokers.redis_call import Call
from smart_router.brokers.redis_options import PARTITIONS, RedisOptions, partition_of
from smart_router.brokers.redis_partition import Partition
from smart_router.brokers.redis_puts import Ledger
from smart_router.brokers.redis_rows import TURN, TURN_WHEN_FULL, policy_words
from smart_router.clock import Clock
from smart_router.errors import BrokerAway, RouterError, StorageError, StorageFull
from smart_router.redis.base import Reply
from smart_router.redis.client import Redis

__all__ = ["Partitions"]


class Partitions:
    """Implements redis_partition.Host. `boxes`: all mailboxes that this node knows of."""

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        options: RedisOptions,
        answers: Answers,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.node = os.urandom(6).hex()
        self.lease = options.lease
        self.answers = answers
        self.ledger = Ledger(redis, options, answers)
        self.boxes: dict[str, Box] = {}
        self.calls = 0
        self.closed = False
        self.all = [Partition(number, self) for number in range(PARTITIONS)]
        self._redis = redis
        self._clock = clock
        self._epoch_ms = clock.wall_ms() - clock.monotonic() * 1000
        self._patience = options.patience
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._words: dict[MailboxPolicy, tuple[int, ...]] = {}
        self._common: dict[str, Any] = {
            "prefix": redis.channel("").decode(),
            "lease": round(self.lease * 1000),
            "window": round(options.dedup_window * 1000),
            "limit": options.dedup_keys,
        }
        self._due: list[Partition] = []
        self._flushing = False
        self._full: StorageFull | None = None
        self._confused = False
        self._beat: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._next_sweep = 0

    # Life

    def subscribe(self) -> None:
        self._redis.subscribe(self._redis.channel(f"w:{self.node}"), self._woken)
        self._redis.subscribe(self._redis.channel("gone"), self._gone)

    async def begin(self) -> None:
        """What dead nodes held is back when this returns."""
        self.ledger.answered()
        for part in self.all:
            part.sweep(only_the_dead=True)
        await self.settled_all()
        self._beat = self._loop.call_later(self._beat_every, self._first_beat)

    async def settled_all(self) -> None:
        """Returns when all that came up is in Redis, or it does not answer."""
        until = self._loop.time() + self._patience
        while not all(part.idle for part in self.all) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def leave(self) -> None:
        """Gives back what is held, leaves the lines, and lets the leases go."""
        self.closed = True
        for part in self.all:
            for box in list(part.boxes.values()):
                for subscription in box.subscriptions:
                    subscription.close()
                for subscription in box.kept:
                    part.release(list(subscription.held.values()), 0.0)
        self.flush()
        await self.settled_all()
        for part in self.all:
            if part.call is None and part.held == 0 and part.lease_until and self._redis.up:
                part.flush(bye=True)
        if self._redis.up:
            await self.settled_all()

    def stop(self) -> None:
        self.closed = True
        for timer in (self._beat, self._giving_up):
            if timer is not None:
                timer.cancel()

    # Mailboxes

    def box(self, address: str) -> Box:
        """What is known here of that mailbox, made if missing."""
        box = self.boxes.get(address)
        if box is None:
            part = self.all[partition_of(address)]
            box = self.boxes[address] = part.boxes[address] = Box(address, part)
        return box

    def adopt(self, box: Box, policy: MailboxPolicy) -> None:
        box.policy = policy
        words = self._words.get(policy)
        if words is None:
            words = self._words[policy] = policy_words(policy)
        box.words = words

    def forget(self, box: Box) -> None:
        self.boxes.pop(box.address, None)
        box.partition.boxes.pop(box.address, None)

    def now_ms(self) -> float:
        """Time that all nodes share as far as their wall clocks agree; a wall clock that jumps does not change it."""
        return self._epoch_ms + self._clock.monotonic() * 1000

    # Calls

    def wake_up(self, partition: Partition) -> None:
        self._due.append(partition)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flushing = False
        due, self._due = self._due, []
        for part in due:
            part.flush()

    def transmit(self, partition: Partition, call: Call, packed: bytes) -> None:
        self.calls += 1
        self.ledger.begin()
        redis = self._redis
        command = redis.evaluation(TURN_WHEN_FULL if call.when_full else TURN, (redis.key(partition.tag, ""),), packed)
        redis.send(partition.tag, command, partial(self._answered, partition, call))

    def _answered(self, partition: Partition, call: Call, answer: Reply) -> None:
        self.ledger.answered()
        if partition.call is call:  # one that was sent twice may be answered twice
            partition.answered(answer)

    def common_words(self) -> dict[str, Any]:
        return self._common

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        if not self.closed:
            self._loop.call_later(seconds * (0.75 + random.random() / 2), work)  # noqa: S311 (jitter)

    def refused(self, entry: Entry, done: PutDone | None, error: RouterError) -> None:
        self.ledger.refused(entry, done, error)

    def settled(self, messages: int, size: int) -> None:
        self.ledger.settled(messages, size)

    # Redis comes, goes, is full

    def is_up(self) -> bool:
        return self._redis.up

    def up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        for part in self.all:
            part.resend()
        if self._beat is not None:
            self.sweep()

    def down(self, _reason: str) -> None:
        if self._giving_up is None and not self.closed:
            self._giving_up = self._loop.call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        error = BrokerAway(self._redis.trouble() or "Redis did not answer in time")
        for part in self.all:
            part.give_up_puts(error)

    def full(self, error: StorageFull | None) -> None:
        if error is not None and self._full is None:
            self._log.error("redis_full", reason=error.message)
        elif error is None and self._full is not None:
            self._log.info("redis_has_room")
        self._full = error

    def confused(self, error: StorageError) -> None:
        if not self._confused:
            self._confused = True
            self._log.error("redis_refused", reason=error.message)

    def trouble(self) -> str:
        if not self._redis.up:
            return self._redis.trouble()
        return self._full.message if self._full is not None else ""

    # Time, and what others tell

    @property
    def _beat_every(self) -> float:
        return min(1.0, self.lease / 3)

    def _first_beat(self) -> None:
        self.sweep()
        self._keep_time()

    def _keep_time(self) -> None:
        """Renews leases, and looks after the partitions that nobody uses, a few at a time."""
        self._beat = self._loop.call_later(self._beat_every, self._keep_time)
        if not self._redis.up:
            return
        for part in self.all:
            if part.used:
                part.sweep()
        for _ in range(PARTITIONS // 16):
            self.all[self._next_sweep].sweep()
            self._next_sweep = (self._next_sweep + 1) % PARTITIONS

    def sweep(self) -> None:
        """Looks after all partitions at once."""
        for part in self.all:
            part.sweep()

    def _woken(self, message: bytes) -> None:
        box = self.boxes.get(message[1:].decode())
        if box is None:
            return
        if message[:1] == b"d":
            for subscription in box.subscriptions:
                subscription.close()
        elif box.subscriptions:
            box.partition.ask(box)

    def _gone(self, message: bytes) -> None:
        box = self.boxes.get(message.decode())
        if box is not None and box.exists and not box.subscriptions and box.section is None:
            box.exists = False
            self.answers.on_removed(box.address)
            self.forget(box)
