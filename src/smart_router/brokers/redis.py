"""The Redis broker: mailboxes that any number of nodes share.

put ──► Section of its mailbox ──► one script call per partition touched (redis_partition.py)
          handed out in the same call where this node reads and has credit ──► consumer
ack, release, grant, close ──► the same way, with the next call
another node's put ──► its script wakes this node up (pub/sub); a sweep each second finds what a lost wake-up left
"""

from __future__ import annotations

import asyncio
import binascii
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from smart_router.brokers.base import (
    BrokerStatistics,
    Capability,
    Consumer,
    End,
    Entry,
    MailboxPolicy,
    OnEnd,
    OnRemoved,
    PutDone,
    PutResult,
    Subscription,
)
from smart_router.brokers.dedup import MAX_KEYS, WINDOW, DedupWindow
from smart_router.brokers.redis_answers import Answers
from smart_router.brokers.redis_box import ENDED, GONE, HELD, RELEASED, Box, RedisSubscription, Slot
from smart_router.brokers.redis_operations import Operations
from smart_router.brokers.redis_partition import Partition
from smart_router.brokers.redis_persistence import look_at_persistence
from smart_router.brokers.redis_rows import TURN, TURN_WHEN_FULL, encode_row, policy_words
from smart_router.clock import Clock
from smart_router.errors import BrokerAway, Refused, RouterError, StorageError, StorageFull
from smart_router.redis.base import Reply
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl

__all__ = ["PARTITIONS", "RedisBroker", "RedisOptions", "dedup_key", "partition_of"]

PARTITIONS: Final = 256
_SAFE: Final = PutResult({})


class RedisOptions(msgspec.Struct, frozen=True):
    """`lease`: seconds after which what a silent node held goes to others. `patience`: that a message without an answer
    waits while Redis is away. `stalled_messages`, `stalled_bytes`: that may wait for an answer."""

    lease: float = 10.0
    patience: float = 3.0
    stalled_messages: int = 1000
    unanswered_bytes: int = 8 * 1024 * 1024
    dedup_window: float = WINDOW
    dedup_keys: int = MAX_KEYS


def partition_of(address: str) -> int:
    """Which partition has the mailbox of that address, on every node."""
    return binascii.crc32(address.encode()) % PARTITIONS


def dedup_key(sender: str, own: str) -> bytes:
    """The last part of the key that remembers a sender's own key: two pairs never have the same."""
    return f"{len(sender)}:{sender}{own}".encode()


class _Group:
    """The entries of one `put`, answered once."""

    __slots__ = ("_done", "_left", "answer", "refused")

    def __init__(self, done: PutDone, left: int) -> None:
        self._done = done
        self._left = left
        self.refused: dict[str, RouterError] = {}
        self.answer: bytes | None = None

    def __call__(self, result: PutResult) -> None:
        self._left -= 1
        self.refused.update(result.refused)
        self.answer = result.answer or self.answer
        if not self._left:
            self._done(PutResult(self.refused, None if self.refused else self.answer))


class RedisBroker(Operations):
    """One node's. See brokers/base.py for what each method promises."""

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
        self.node = os.urandom(6).hex()
        self.lease = self.options.lease
        self.answers = Answers()
        self.answers.on_end = on_end or (lambda entry, _end, _reason: self.ack([entry]))
        self._log = log or structlog.get_logger()
        self._on_warning = on_warning
        self._clock = clock
        self.redis = Redis(
            url,
            name=f"smart-router-{self.node}",
            on_up=self._up,
            on_down=self._down,
            on_resubscribed=self.sweep,
            log=log,
        )
        self._boxes: dict[str, Box] = {}
        self._words: dict[MailboxPolicy, tuple[int, ...]] = {}
        self._dedup = DedupWindow(self.options.dedup_window, self.options.dedup_keys)
        self._common: dict[str, Any] = {
            "prefix": url.prefix,
            "lease": round(self.lease * 1000),
            "window": round(self.options.dedup_window * 1000),
            "limit": self.options.dedup_keys,
        }
        self._partitions: list[Partition] = []
        self._due: list[Partition] = []
        self._flushing = False
        self._tickets = 0
        self._unanswered = self._unanswered_bytes = 0
        self._answered_at = 0.0
        self._full: StorageFull | None = None
        self._confused = False
        self._puts = self._refused = self._calls = 0
        self._beat: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.TimerHandle | None = None
        self._next_sweep = 0
        self._closed = False

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
        self._epoch_ms = self._clock.wall_ms() - self._clock.monotonic() * 1000
        self._partitions = [Partition(number, self) for number in range(PARTITIONS)]
        self.redis.subscribe(self.redis.channel(f"w:{self.node}"), self._woken)
        self.redis.subscribe(self.redis.channel("gone"), self._gone)
        await self.redis.open()
        try:
            await look_at_persistence(self.redis, self._warn)
        except BaseException:
            await self.redis.close()
            raise
        self._answered_at = self._loop.time()
        for part in self._partitions:
            part.sweep(only_the_dead=True)
        await self._settled()
        self._beat = self._loop.call_later(self._beat_every, self._begin)

    def _begin(self) -> None:
        self.sweep()
        self._keep_time()

    def _raised(self, error: Exception) -> None:
        """Somebody who was told of something failed: the node's handler shows it."""
        self._loop.call_exception_handler({"message": "a callback of the Redis broker raised", "exception": error})

    def _warn(self, text_: str) -> None:
        self._log.warning("redis_persistence", reason=text_)
        self._on_warning(text_)

    @staticmethod
    def tag_of(address: str) -> str:
        """What stands between the braces of all keys of that mailbox."""
        return f"{partition_of(address):03d}"

    @property
    def _beat_every(self) -> float:
        return min(1.0, self.lease / 3)

    def now_ms(self) -> float:
        """Time that all nodes share as far as their wall clocks agree; a wall clock that jumps does not change it."""
        return self._epoch_ms + self._clock.monotonic() * 1000

    async def close(self) -> None:
        if self._closed or not self._partitions:
            return
        self._closed = True
        for part in self._partitions:
            for box in list(part.boxes.values()):
                for subscription in box.subscriptions:
                    subscription.close()
                for subscription in box.kept:
                    part.release(list(subscription.held.values()), 0.0)
        self._flush()
        await self._settled()
        for part in self._partitions:
            if part.call is None and part.held == 0 and part.lease_until and self.redis.up:
                part.flush(bye=True)
        if self.redis.up:
            await self._settled()
        self._stop_timers()
        await self.redis.close()

    async def _settled(self) -> None:
        """Returns when all that came up is in Redis, or it does not answer."""
        until = self._loop.time() + self.options.patience
        while not all(part.idle for part in self._partitions) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def crash(self) -> None:
        """Ends without a goodbye, as a killed process does."""
        self._closed = True
        self._stop_timers()
        self.redis.abort()

    def _stop_timers(self) -> None:
        for timer in (self._beat, self._giving_up):
            if timer is not None:
                timer.cancel()

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
            self._put_all(entries, _Group(done, len(entries)))
        else:
            done(_SAFE)

    def _put_all(self, entries: Sequence[Entry], done: PutDone | None, key: tuple[bytes, bytes] | None = None) -> None:
        error = self._refusal(len(entries))
        if error is not None:
            for entry in entries:
                self.refused(entry, done, error)
            return
        self._puts += len(entries)
        self._unanswered += len(entries)
        boxes = self._boxes
        numbers: dict[Partition, int] = {}
        for entry in entries:
            message, policy = entry.message, entry.policy
            box = boxes.get(entry.address)
            if box is None:
                box = self.box(entry.address)
            if box.policy is not policy:
                self._adopt(box, policy)
            part = box.partition
            section = box.section
            if section is None:
                section = part.section(box)
            number = 0
            if key is not None:
                number = numbers.get(part, 0)
                if not number:
                    part.keys.append(key)
                    number = numbers[part] = len(part.keys)
            deadline = 0.0
            if message.expires_at:
                deadline = self.now_ms() + message.expires_at - message.at
            row = encode_row(message, deadline)
            section.puts += (min(max(message.priority, 0), 9), row, number)
            section.entries.append((entry, done))
            size = len(message.body)
            section.bytes += size
            self._unanswered_bytes += size

    def _refusal(self, count: int) -> RouterError | None:
        if not self.redis.up:
            return BrokerAway(self.redis.trouble())
        if self._unanswered_bytes > self.options.unanswered_bytes or (
            self._unanswered + count > self.options.stalled_messages and self._loop.time() - self._answered_at > 0.25
        ):
            return Refused("busy", "too many messages wait for Redis to answer: try again later")
        return None

    def refused(self, entry: Entry, done: PutDone | None, error: RouterError) -> None:
        self._refused += 1
        if done is not None:
            done(PutResult({entry.address: error}))
        else:
            self.on_end(entry, End.REFUSED, error.code)

    def settled(self, messages: int, size: int) -> None:
        self._unanswered -= messages
        self._unanswered_bytes -= size

    def _put_once(self, entries: Sequence[Entry], done: PutDone | None, dedup: tuple[str, str, bytes]) -> None:
        sender, own, answer = dedup
        key = (sender, own)
        if done is None:
            done = partial(self._end_refused, entries)
        known = self._dedup.answer(key, self._clock.monotonic())
        if known is not None:
            done(PutResult({}, known))
            return

        def repeat(result: PutResult) -> None:
            if result.refused:
                self._put_once(entries, done, dedup)
            else:
                done(result)

        def finished(result: PutResult) -> None:
            first = result.answer or answer
            repeats = self._dedup.finish(key, first, result, self._clock.monotonic())
            done(result)
            for told in repeats:
                told(result if result.refused else PutResult({}, first))

        if self._dedup.wait(key, repeat):
            return
        self._dedup.begin(key)
        if entries:
            self._put_all(entries, _Group(finished, len(entries)), (dedup_key(sender, own), answer))
        else:
            finished(_SAFE)

    def _end_refused(self, entries: Sequence[Entry], result: PutResult) -> None:
        """Nobody waits for the answer: a refusal is an end."""
        for entry in entries:
            if (error := result.refused.get(entry.address)) is not None:
                self.on_end(entry, End.REFUSED, error.code)

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        return self._dedup.recall((sender, key), self._clock.monotonic())

    def ack(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            slot = entry.slot
            if not isinstance(slot, Slot) or slot.state == GONE:
                continue
            part, state = slot.box.partition, slot.state
            slot.state = GONE
            if slot.life != part.life:
                continue
            box = slot.box
            section = box.section or part.section(box)
            if state in (HELD, ENDED):
                part.held -= 1
                if slot.subscription is not None:
                    slot.subscription.held.pop(slot.number, None)
                section.acks.append(slot.number)
            elif state == RELEASED:
                for place, (released, _) in enumerate(section.released):
                    if released is entry:
                        del section.released[place]
                        section.acks.append(slot.number)
                        break
                else:
                    section.withdrawn.append(slot.number)

    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None:
        due = self.now_ms() + delay * 1000 if delay > 0 else 0.0
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
        box = self.box(address)
        if box.policy is not policy:
            self._adopt(box, policy)
        self._tickets += 1
        subscription = RedisSubscription(box, consumer, self._tickets)
        standing = subscription.standing = self._loop.create_future()
        box.partition.enter(subscription)
        try:
            async with asyncio.timeout(self.options.patience + self.redis.url.timeout):
                await standing
        except BaseException as error:
            subscription.close()
            if isinstance(error, TimeoutError):
                raise BrokerAway(self.redis.trouble() or "Redis does not answer") from error
            raise
        subscription.standing = None
        return subscription

    # Calls

    def box(self, address: str) -> Box:
        box = self._boxes.get(address)
        if box is not None:
            return box
        part = self._partitions[partition_of(address)]
        box = self._boxes[address] = part.boxes[address] = Box(address, part)
        return box

    def _adopt(self, box: Box, policy: MailboxPolicy) -> None:
        box.policy = policy
        words = self._words.get(policy)
        if words is None:
            words = self._words[policy] = policy_words(policy)
        box.words = words

    def wake_up(self, partition: Partition) -> None:
        self._due.append(partition)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        due, self._due = self._due, []
        for part in due:
            part.flush()

    def transmit(self, partition: Partition, packed: bytes, *, when_full: bool) -> None:
        self._calls += 1
        if not self._unanswered:
            self._answered_at = self._loop.time()
        redis = self.redis
        command = redis.evaluation(TURN_WHEN_FULL if when_full else TURN, (redis.key(partition.tag, ""),), packed)
        redis.send(partition.tag, command, partial(self._answered, partition))

    def _answered(self, partition: Partition, answer: Reply) -> None:
        self._answered_at = self._loop.time()
        if self._closed and partition.call is None:
            return
        partition.answered(answer)

    def common_words(self) -> dict[str, Any]:
        return self._common

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        if not self._closed:
            self._loop.call_later(seconds * (0.75 + random.random() / 2), work)  # noqa: S311 (jitter)

    # Redis comes, goes, is full

    def _up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        for part in self._partitions:
            if part.call is not None:
                part.resend()
        if self._beat is not None:
            self.sweep()

    def _down(self, _reason: str) -> None:
        if self._giving_up is None and not self._closed:
            self._giving_up = self._loop.call_later(self.options.patience, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        error = BrokerAway(self.redis.trouble() or "Redis did not answer in time")
        for part in self._partitions:
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

    # Time

    def _keep_time(self) -> None:
        """Renews leases, and looks after the partitions that nobody uses, a few at a time."""
        self._beat = self._loop.call_later(self._beat_every, self._keep_time)
        if not self.redis.up:
            return
        for part in self._partitions:
            if part.used:
                part.sweep()
        for _ in range(PARTITIONS // 16):
            self._partitions[self._next_sweep].sweep()
            self._next_sweep = (self._next_sweep + 1) % PARTITIONS

    def sweep(self) -> None:
        """Looks after all partitions at once."""
        for part in self._partitions:
            part.sweep()

    def _woken(self, message: bytes) -> None:
        box = self._boxes.get(message[1:].decode())
        if box is None:
            return
        if message[:1] == b"d":
            for subscription in box.subscriptions:
                subscription.close()
        elif box.subscriptions:
            box.partition.ask(box)

    def _gone(self, message: bytes) -> None:
        box = self._boxes.get(message.decode())
        if box is not None and box.exists and not box.subscriptions and box.section is None:
            box.exists = False
            self.on_removed(box.address)
            self.forget(box)

    def forget(self, box: Box) -> None:
        """Nothing is known of this mailbox any more."""
        self._boxes.pop(box.address, None)
        box.partition.boxes.pop(box.address, None)

    # What it knows

    def exists(self, address: str) -> bool:
        box = self._boxes.get(address)
        return box is not None and box.exists

    def trouble(self) -> str:
        if not self.redis.up:
            return self.redis.trouble()
        return self._full.message if self._full is not None else ""

    def statistics(self) -> BrokerStatistics:
        boxes = self._boxes.values()
        trouble = self.trouble()
        return BrokerStatistics(
            mailboxes=sum(box.exists for box in boxes),
            loaded=sum(bool(box.subscriptions) for box in boxes),
            waiting=sum(box.waiting for box in boxes),
            in_flight=sum(part.held for part in self._partitions),
            bytes_in_memory=self._unanswered_bytes,
            puts=self._puts,
            elided=0,
            written=self._puts - self._refused,
            commits=self._calls,
            refused=self._refused,
            ended=self.answers.ended,
            healthy=not trouble,
            reason=trouble,
        )
