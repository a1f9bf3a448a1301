"""Putting into mailboxes in Redis: what may wait for an answer, and what a repeat is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from smart_router.brokers.base import End, Entry, PutDone, PutResult
from smart_router.brokers.dedup import DedupWindow
from smart_router.brokers.redis_answers import Answers
from smart_router.brokers.redis_options import RedisOptions, dedup_key
from smart_router.brokers.redis_partition import Partition
from smart_router.brokers.redis_rows import encode_row
from smart_router.clock import Clock
from smart_router.errors import BrokerAway, Refused, RouterError
from smart_router.redis.client import Redis

if TYPE_CHECKING:
    from smart_router.brokers.redis_partitions import Partitions

__all__ = ["Ledger", "Puts"]

_SAFE: Final = PutResult({})
_STALLED: Final = 0.25
"""Seconds without an answer after which Redis counts as standing still."""


class Ledger:
    """What waits for Redis' answer, and whether more may."""

    def __init__(self, redis: Redis, options: RedisOptions, answers: Answers) -> None:
        self.messages = self.bytes = 0
        self.puts = self.refusals = 0
        self.answered_at = 0.0
        self._redis = redis
        self._options = options
        self._answers = answers
        self._now = asyncio.get_running_loop().time

    def refusal(self, count: int) -> RouterError | None:
        if not self._redis.up:
            return BrokerAway(self._redis.trouble())
        options = self._options
        too_many = self.messages + count > options.stalled_messages and self._now() - self.answered_at > _STALLED
        if too_many or self.bytes > options.unanswered_bytes:
            return Refused("busy", "too many messages wait for Redis to answer: try again later")
        return None

    def refused(self, entry: Entry, done: PutDone | None, error: RouterError) -> None:
        """Tells it to who waits; when nobody does, it is an end."""
        self.refusals += 1
        if done is not None:
            done(PutResult({entry.address: error}))
        else:
            self._answers.on_end(entry, End.REFUSED, error.code)

    def answered(self) -> None:
        self.answered_at = self._now()

    def begin(self) -> None:
        """A call goes out: if nothing waited, Redis owes an answer from now on."""
        if not self.messages:
            self.answered_at = self._now()

    def settled(self, messages: int, size: int) -> None:
        self.messages -= messages
        self.bytes -= size


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


class Puts:
    """See base.Broker for what `put` and `recall` promise."""

    def __init__(self, partitions: Partitions, ledger: Ledger, clock: Clock, options: RedisOptions) -> None:
        self._partitions = partitions
        self._ledger = ledger
        self._now = clock.monotonic
        self._dedup = DedupWindow(options.dedup_window, options.dedup_keys)

    def put(self, entries: Sequence[Entry], done: PutDone | None, dedup: tuple[str, str, bytes] | None) -> None:
        if dedup is not None:
            self._put_once(entries, done, dedup)
        elif done is None or len(entries) == 1:
            self._put_all(entries, done)
        elif entries:
            self._put_all(entries, _Group(done, len(entries)))
        else:
            done(_SAFE)

    def _put_all(self, entries: Sequence[Entry], done: PutDone | None, key: tuple[bytes, bytes] | None = None) -> None:
        ledger, partitions = self._ledger, self._partitions
        error = ledger.refusal(len(entries))
        if error is not None:
            for entry in entries:
                ledger.refused(entry, done, error)
            return
        ledger.puts += len(entries)
        ledger.messages += len(entries)
        boxes = partitions.boxes
        numbers: dict[Partition, int] = {}
        for entry in entries:
            message, policy = entry.message, entry.policy
            box = boxes.get(entry.address)
            if box is None:
                box = partitions.box(entry.address)
            if box.policy is not policy:
                partitions.adopt(box, policy)
            section = box.section or box.partition.section(box)
            number = 0
            if key is not None:
                number = _number_of_key(box.partition, key, numbers)
            deadline = 0.0
            if message.expires_at:
                deadline = partitions.now_ms() + message.expires_at - message.at
            section.puts += (min(max(message.priority, 0), 9), encode_row(message, deadline), number)
            section.entries.append((entry, done))
            size = len(message.body) if not message.attachments else message.size
            section.bytes += size
            ledger.bytes += size

    def _put_once(self, entries: Sequence[Entry], done: PutDone | None, dedup: tuple[str, str, bytes]) -> None:
        sender, own, answer = dedup

        def put(finished: PutDone) -> None:
            if entries:
                self._put_all(entries, _Group(finished, len(entries)), (dedup_key(sender, own), answer))
            else:
                finished(_SAFE)

        self._dedup.once((sender, own), answer, done or partial(self._end_refused, entries), put, self._now)

    def _end_refused(self, entries: Sequence[Entry], result: PutResult) -> None:
        """Nobody waits for the answer: a refusal is an end."""
        for entry in entries:
            if (error := result.refused.get(entry.address)) is not None:
                self._ledger.refused(entry, None, error)

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        return self._dedup.recall((sender, key), self._now())


def _number_of_key(part: Partition, key: tuple[bytes, bytes], numbers: dict[Partition, int]) -> int:
    """Of the key among those of the partition's next call; 0 stands for none."""
    number = numbers.get(part, 0)
    if not number:
        part.keys.append(key)
        number = numbers[part] = len(part.keys)
    return number
