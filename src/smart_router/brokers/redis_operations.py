"""What operators do with mailboxes in Redis: look, purge, move, delete."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from smart_router.brokers.base import Entry, MailboxPolicy, MailboxStatistics, PutDone, PutResult
from smart_router.brokers.redis_box import Box
from smart_router.brokers.redis_partition import Partition
from smart_router.brokers.redis_partitions import Partitions
from smart_router.brokers.redis_rows import LOOK, ForeignRow, decode_row
from smart_router.redis.base import Reply, Word
from smart_router.redis.client import Redis

__all__ = ["Operations"]

_PAGE: Final = 200
_UNKNOWN: Final = MailboxPolicy()


class Operations(ABC):
    """The half of the broker that no message passes through. See brokers/base.py for what each method promises."""

    redis: Redis
    partitions: Partitions

    @abstractmethod
    def put(
        self,
        entries: Sequence[Entry],
        done: PutDone | None = None,
        dedup: tuple[str, str, bytes] | None = None,
    ) -> None: ...

    @abstractmethod
    def ack(self, entries: Sequence[Entry]) -> None: ...

    @abstractmethod
    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None: ...

    async def _look(self, partition: Partition, *words: Word) -> Reply:
        command = self.redis.evaluation(LOOK, (self.redis.key(partition.tag, ""),), *words)
        return await self.redis.call(partition.tag, *command)

    async def mailbox(self, address: str) -> MailboxStatistics | None:
        (found,) = await self._look(self.partitions.box(address).partition, "statistics", address)
        return _statistics(found)

    async def mailboxes(self, prefix: str = "", after: str = "", limit: int = 100) -> list[MailboxStatistics]:
        names = await self._names(prefix, after, limit)
        by_partition: dict[Partition, list[str]] = {}
        for name in names:
            by_partition.setdefault(self.partitions.box(name).partition, []).append(name)
        found: dict[str, MailboxStatistics] = {}
        answers = await asyncio.gather(
            *[self._look(partition, "statistics", *mine) for partition, mine in by_partition.items()]
        )
        for answer in answers:
            for words in answer:
                statistics = _statistics(words)
                if statistics is not None:
                    found[statistics.address] = statistics
                    self.partitions.box(statistics.address).exists = True
        return [found[name] for name in names if name in found]

    async def _names(self, prefix: str, after: str, limit: int) -> list[str]:
        """The first `limit` in order. Each partition gives some; names behind the last of one that has more wait."""
        names: list[str] = []
        chunk = min(limit, limit * 2 // len(self.partitions.all) + 8)
        last = f"({prefix}\xff" if prefix else "+"
        while len(names) < limit:
            first = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
            asked = [self._look(partition, "names", first, _bytes(last), chunk) for partition in self.partitions.all]
            pages = [[name.decode() for name in page] for page in await asyncio.gather(*asked)]
            ends = [page[-1] for page in pages if len(page) == chunk]
            merged = sorted(name for page in pages for name in page)
            whole = [name for name in merged if not ends or name <= min(ends)]
            names += whole
            if not ends:
                break
            after = min(ends)
        return names[:limit]

    async def peek(self, address: str, limit: int = 100, after: str = "") -> list[Entry]:
        found: list[Entry] = []
        async for _, entry in self._waiting(address):
            if after:
                after = "" if entry.message.id == after else after
                continue
            found.append(entry)
            if len(found) >= limit:
                break
        return found

    async def _waiting(self, address: str) -> AsyncIterator[tuple[int, Entry]]:
        """All that waits, with its number, oldest first."""
        box, after = self.partitions.box(address), 0
        while True:
            page = await self._look(box.partition, "peek", address, after, _PAGE)
            page.sort(key=lambda item: int(item[0]))
            page = page[:_PAGE]
            for number, row, counts in page:
                try:
                    entry = Entry(decode_row(row), address, box.policy or _UNKNOWN)
                except ForeignRow:
                    continue
                if counts:
                    attempts, deliveries, redelivered = counts.split()[:3]
                    entry.attempts, entry.deliveries = int(attempts), int(deliveries)
                    entry.redelivered = redelivered == b"1"
                yield number, entry
            if not page:
                return
            after = page[-1][0] // 10

    async def purge(self, address: str) -> int:
        return await self._end_all(self.partitions.box(address), "purge")

    async def _end_all(self, box: Box, operation: str) -> int:
        ended = 0
        while True:
            some = await self._operate(box, operation)
            ended += len(some)
            if not some:
                return ended

    async def _operate(self, box: Box, operation: str | int) -> list[Entry]:
        """What the operation took out; operations on one mailbox come one after another."""
        section = box.partition.section(box)
        while section.answer is not None:
            await asyncio.wait([section.answer])
            section = box.partition.section(box)
        section.operation = operation
        answer: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
        section.answer = answer
        return await answer

    async def requeue(self, address: str, message_id: str, to: str, policy: MailboxPolicy) -> bool:
        async for number, entry in self._waiting(address):
            if entry.message.id == message_id:
                chosen = number
                break
        else:
            return False
        picked = await self._operate(self.partitions.box(address), chosen)
        if not picked:
            return False
        (entry,) = picked
        safe: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        self.put([Entry(entry.message, to, policy)], safe.set_result)
        result = await safe
        if result.refused:
            redelivered = entry.redelivered
            self.release([entry])
            entry.redelivered = redelivered
            raise result.refused[to]
        self.ack([entry])
        return True

    async def delete(self, address: str) -> bool:
        if await self.mailbox(address) is None:
            return False
        box = self.partitions.box(address)
        for subscription in box.subscriptions:
            subscription.close()
        await self._end_all(box, "delete")
        return True


def _statistics(words: list[Any] | None) -> MailboxStatistics | None:
    if not words:
        return None
    address, waiting, in_flight, size, subscriptions, durable = words
    return MailboxStatistics(address.decode(), waiting, in_flight, size, subscriptions, durable == 1)


def _bytes(text: str) -> bytes:
    """The end of a range of names: behind every address, which is ASCII."""
    return text.encode("latin-1")
