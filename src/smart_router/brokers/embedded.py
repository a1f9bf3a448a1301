"""The embedded broker: `embedded://memory`, and `embedded://PATH` with a journal.

put ──► mailbox ──► consumer (credit, nothing waits)
 └────► journal: rows of what was not confirmed in time, one commit for many (journal.py)
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from smart_router.brokers.base import (
    BrokerStatistics,
    Capability,
    Consumer,
    End,
    Entry,
    MailboxPolicy,
    MailboxStatistics,
    OnEnd,
    OnRemoved,
    PutDone,
    PutResult,
    Subscription,
)
from smart_router.brokers.dedup import DedupWindow
from smart_router.brokers.journal import Journal
from smart_router.brokers.journalfile import Found, Opened, open_file
from smart_router.brokers.lane import Lane, Stub
from smart_router.brokers.mailbox import Mailbox
from smart_router.brokers.operations import Operations
from smart_router.brokers.options import EmbeddedOptions, journal_path
from smart_router.brokers.pages import Pages
from smart_router.brokers.slot import ENDED, GONE, HELD, NONE, QUEUED, SAFE, Group, Slot, slot_of
from smart_router.brokers.waiting import Waiting
from smart_router.brokers.writer import Reader, Writer
from smart_router.clock import Clock, Deadlines
from smart_router.errors import Refused, RouterError, StorageError, StorageFailed
from smart_router.sqlite import PathLock

__all__ = ["EmbeddedBroker", "EmbeddedOptions"]

_UNKNOWN: Final = MailboxPolicy()
_CLAIMS: Final = frozenset(Capability) - {Capability.MANY_NODES}


class EmbeddedBroker(Operations):
    """Mailboxes of one process. See brokers/base.py for what each method promises."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        options: EmbeddedOptions | None = None,
        on_end: OnEnd | None = None,
        on_failed: Callable[[StorageError], None] | None = None,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        """`on_end`: see base.OnEnd; without it ended messages are forgotten. `on_failed`: the journal's medium failed.

        It is called once; the program should tell its clients and exit non-zero (the journal takes nothing more).
        """
        self.path = journal_path(url)
        self.options = options or EmbeddedOptions()
        self.on_end: OnEnd = on_end or (lambda entry, end, reason: self.ack([entry]))
        self.on_removed: OnRemoved = lambda address: None
        self.capabilities = _CLAIMS if self.path else _CLAIMS - {Capability.DURABLE}
        self.has_journal = self.path is not None
        self._clock = clock
        self._now = clock.monotonic
        self._on_failed = on_failed
        self._log = log or structlog.get_logger()
        self._boxes: dict[str, Mailbox] = {}
        self._dedup = DedupWindow(self.options.dedup_window, self.options.dedup_keys)
        self.order: Iterator[int] = itertools.count(1)
        self._seq = 0
        self._bytes = 0
        self._puts = self._refused = self._ended = self._elided = 0
        self._journal: Journal | None = None
        self.deadlines: Deadlines | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self._clock, loop.call_at)
        if self.path is None:
            return
        self._lock = PathLock(self.path)
        try:
            opened = await loop.run_in_executor(None, self._open_file, self.path)
        except BaseException:
            self._lock.release()
            raise
        if opened.put_aside is not None:
            self._log.error("journal_damaged", put_aside=str(opened.put_aside), rescued=opened.rescued)
        journal = Journal(self.options, self._clock.wall_ms)
        journal.on_trouble = self._trouble
        journal.on_refused = self._refuse
        writer = Writer(self.path, opened.writer, loop, journal.written_back, journal.fail)
        reader = Reader(self.path, opened.reader, loop)
        journal.start(writer, loop)
        self._pages = Pages(reader, journal.kept, self.end, self._unreadable)
        writer.start()
        reader.start()
        self._journal = journal
        self._take_over(opened.found)

    def _open_file(self, path: Path) -> Opened:
        wall, now = self._clock.wall_ms(), int(self._now() * 1000)
        return open_file(path, str(wall), lambda expires_at: max(1, now + expires_at - wall))

    def _take_over(self, found: Found) -> None:
        """What was found on disk; policies are known with the first put or subscription."""
        self._seq = found.last_seq
        for priority, lanes in found.lanes.items():
            while lanes:
                address, stubs = lanes.popitem()
                box = self._boxes.get(address) or self._make(address, _UNKNOWN)
                box.restore(priority, stubs)
        for address, keys in found.keys.items():
            for key, seq in keys.items():
                self._boxes[address].note_key(key, seq)
        wall, now = self._clock.wall_ms(), self._now()
        for sender, key, answer, at in found.dedup:
            self._dedup.remember((sender, key), answer, now - max(0, wall - at) / 1000)

    def _trouble(self, error: StorageError | None) -> None:
        if error is None:
            self._log.info("journal_recovered", path=str(self.path))
            return
        self._log.error("journal_trouble", code=error.code, reason=error.message)
        if isinstance(error, StorageFailed) and self._on_failed is not None:
            self._on_failed(error)

    def _unreadable(self, error: StorageError) -> None:
        assert self._journal is not None
        self._journal.fail(StorageFailed(f"{error.message}: restart: what can be read is kept, the file is put aside"))

    async def close(self) -> None:
        for box in list(self._boxes.values()):
            for sub in box.subs:
                sub.close()
        if self._journal is not None:
            await self._pages.close()
            await self._journal.close()
            self._lock.release()
        if self.deadlines is not None:
            self.deadlines.close()

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
            self._put_all(entries, done, whole=False)
        elif entries:
            self._put_all(entries, Group(done, len(entries)), whole=False)
        else:
            done(SAFE)

    def _put_all(self, entries: Sequence[Entry], done: PutDone | None, *, whole: bool) -> None:
        """`whole`: the rows are needed, confirmed or not."""
        now = self._now()
        boxes, journal = self._boxes, self._journal
        self._puts += len(entries)
        for entry in entries:
            box = boxes.get(entry.address)
            if box is None:
                box = self._make(entry.address, entry.policy)
            elif box.policy is not entry.policy:
                box.adopt(entry.policy)
            message = entry.message
            deadline = int(now * 1000) + message.expires_at - message.at if message.expires_at else 0
            self._seq = seq = self._seq + 1
            if journal is None or not box.policy.durable:
                entry.slot = slot = Slot(box, seq, NONE, deadline, None)
                self._put_in_memory(entry, slot, box, done)
                continue
            entry.slot = slot = Slot(box, seq, QUEUED, deadline, done)
            if journal.refusal is not None:
                self._refuse(entry, journal.refusal, done)
            elif box.ready and not box.depth:
                journal.add(entry, at_once=whole)
                box.hand(entry, slot)
            elif (error := box.put(entry, slot)) is not None:
                self._refuse(entry, error, done)
            else:
                journal.add(entry, at_once=whole or not box.subs)

    def _put_in_memory(self, entry: Entry, slot: Slot, box: Mailbox, done: PutDone | None) -> None:
        if box.ready and not box.depth:
            box.hand(entry, slot)
        elif (error := box.put(entry, slot)) is not None:
            self._refuse(entry, error, done)
            return
        if done is not None:
            done(SAFE)

    def _refuse(self, entry: Entry, error: RouterError, done: PutDone | None) -> None:
        slot = slot_of(entry)
        slot.state = GONE
        slot.done = None
        slot.box.settle()  # it may have been made for this one
        self._refused += 1
        if done is not None:
            done(PutResult({entry.address: error}))
        else:
            self.on_end(entry, End.REFUSED, error.code)

    def _put_once(self, entries: Sequence[Entry], done: PutDone | None, dedup: tuple[str, str, bytes]) -> None:
        sender, own, answer = dedup
        key = (sender, own)

        def put(finished: PutDone) -> None:
            group = Group(finished, len(entries) + 1)
            self._put_all(entries, group, whole=True)
            if self._journal is None or group.refused or not any(entry.policy.durable for entry in entries):
                group(SAFE)
            else:
                self._journal.add_key(key, answer, group)

        self._dedup.once(key, answer, done or partial(self._end_refused, entries), put, self._now)

    def _end_refused(self, entries: Sequence[Entry], result: PutResult) -> None:
        """Nobody waits for the answer: a refusal is an end."""
        for entry in entries:
            if (error := result.refused.get(entry.address) or result.refused.get("")) is not None:
                self.on_end(entry, End.REFUSED, error.code)

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        return self._dedup.recall((sender, key), self._now())

    def ack(self, entries: Sequence[Entry]) -> None:
        journal = self._journal
        for entry in entries:
            slot = entry.slot
            if not isinstance(slot, Slot) or slot.state == GONE:
                continue
            if slot.sub is not None:
                del slot.sub.held[entry]
                slot.sub = None
            elif slot.state != ENDED:
                slot.box.withdraw(entry, slot)
            slot.state = GONE
            if slot.row == NONE or journal is None:
                continue
            if slot.row == QUEUED:
                self._elided += 1
            else:
                journal.remove(slot.seq)
            done = slot.done
            if done is not None:
                slot.done = None
                done(SAFE)

    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None:
        by_box: dict[Waiting, list[Entry]] = {}
        for entry in entries:
            slot = entry.slot
            if isinstance(slot, Slot) and slot.state == HELD:
                by_box.setdefault(slot.box, []).append(entry)
        for box, mine in by_box.items():
            box.release(mine, delay)

    # What a mailbox needs (mailbox.Host)

    def now(self) -> float:
        return self._now()

    def watch(self, box: Waiting) -> None:
        assert self.deadlines is not None
        self.deadlines.watch(box)

    def end(self, entry: Entry, end: End, reason: str) -> None:
        slot = slot_of(entry)
        slot.state = ENDED
        self._ended += 1
        self.on_end(entry, end, reason)

    def end_stub(self, box: Waiting, stub: Stub, end: End, reason: str) -> None:
        self._pages.end(box, stub, end, reason)

    def load(self, box: Waiting, lane: Lane) -> None:
        self._pages.load(box, lane)

    def keep_cold(self, entry: Entry) -> None:
        assert self._journal is not None
        self._journal.keep(entry)

    def vanish(self, box: Waiting) -> None:
        box.deleted = True
        if self._boxes.get(box.address) is box:
            del self._boxes[box.address]
            self.on_removed(box.address)

    def room(self, size: int) -> RouterError | None:
        if self._bytes + size <= self.options.memory_limit:
            return None
        return Refused("busy", "too much waits in this node's memory: try again later")

    def taken(self, size: int) -> None:
        self._bytes += size

    def freed(self, size: int) -> None:
        self._bytes -= size

    # Mailboxes

    def _make(self, address: str, policy: MailboxPolicy) -> Mailbox:
        box = self._boxes[address] = Mailbox(address, policy, self)
        return box

    async def subscribe(self, address: str, policy: MailboxPolicy, consumer: Consumer) -> Subscription:
        box = self._boxes.get(address)
        if box is None:
            box = self._make(address, policy)
        elif box.policy is not policy:
            box.adopt(policy)
        return box.subscribe(consumer)

    # What it knows

    def exists(self, address: str) -> bool:
        return address in self._boxes

    def holder_of(self, address: str) -> Consumer | None:
        """Whose turn it is at an exclusive mailbox."""
        box = self._boxes.get(address)
        return box.subs[0].consumer if box is not None and box.subs else None

    async def mailbox(self, address: str) -> MailboxStatistics | None:
        return self.statistics_of(address)

    def statistics_of(self, address: str) -> MailboxStatistics | None:
        box = self._boxes.get(address)
        if box is None:
            return None
        return MailboxStatistics(address, box.waiting, box.in_flight, box.bytes, len(box.subs), box.durable)

    async def mailboxes(self, prefix: str = "", after: str = "", limit: int = 100) -> list[MailboxStatistics]:
        names = (name for name in self._boxes if name.startswith(prefix) and name > after)
        found = (self.statistics_of(name) for name in heapq.nsmallest(limit, names))
        return [statistics for statistics in found if statistics is not None]

    def trouble(self) -> str:
        trouble = self._journal.trouble if self._journal is not None else None
        return trouble.message if trouble is not None else ""

    def statistics(self) -> BrokerStatistics:
        boxes, journal = self._boxes.values(), self._journal
        trouble = self.trouble()
        return BrokerStatistics(
            mailboxes=len(boxes),
            loaded=sum(box.loaded for box in boxes),
            waiting=sum(box.waiting for box in boxes),
            in_flight=sum(box.in_flight for box in boxes if box.subs),
            bytes_in_memory=self._bytes + (journal.kept_bytes if journal is not None else 0),
            puts=self._puts,
            elided=self._elided,
            written=journal.written if journal is not None else 0,
            commits=journal.commits if journal is not None else 0,
            refused=self._refused,
            ended=self._ended,
            healthy=not trouble,
            reason=trouble,
        )
