"""The journal, seen from the event loop: which rows are written when, and which never.

    delivered to a reader ──► fresh ─half a delay─► aged ─half a delay─► one poll more ─┐
    nobody to deliver to ───────────────────────────────────────────────────────────────┴─► now ─► one commit
    confirmed while in one of these lists: the row is never written ("elided")

A row of a delivered message waits between half of `commit_delay` and the whole. At saturation one turn of the loop is
longer than that, and when the timer fires late the confirmation may be in the socket, or read and put off to the end of
the turn. So the timer only starts three hops of `call_soon`: the first may run before the next poll, the second runs
after it and the reads that it found, the third after what these reads had put off; then the rows that are still needed
go. On an idle loop three hops take some 20 µs. Tried on uvloop and asyncio (tests/brokers/test_elision.py): without
hops a put-off confirmation comes too late on both.

The writer gets one batch at a time; the next collects while it commits: group commit without a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from smart_router.brokers.base import Entry, PutDone, PutResult
from smart_router.brokers.options import EmbeddedOptions
from smart_router.brokers.rows import encode_row
from smart_router.brokers.slot import COLD, GONE, LOST, QUEUED, SAFE, UNTOLD, WAITING, WRITING, WRITTEN, slot_of
from smart_router.brokers.writer import Batch, Writer
from smart_router.errors import Refused, RouterError, StorageError, StorageFailed

__all__ = ["BACKLOG", "Journal"]

BACKLOG: Final = 64 * 1024 * 1024
"""Bytes that may wait for the writer in mailboxes that nobody reads; more is refused as `busy`."""

_MAX_ROWS: Final = 4000
_MANY_DELETES: Final = 1000
_MAX_DELETES: Final = 5000
_DELETES_AFTER: Final = 0.5
_HOPS: Final = 3
_BUSY: Final = Refused("busy", "the journal is behind: try again later")


class Journal:
    """`refusal`: why nothing is taken now, None when all is well. `trouble`: the same, of the storage."""

    def __init__(self, options: EmbeddedOptions, wall_ms: Callable[[], int]) -> None:
        self.refusal: RouterError | None = None
        self.trouble: StorageError | None = None
        self.on_trouble: Callable[[StorageError | None], None] = lambda error: None
        self.on_refused: Callable[[Entry, RouterError, PutDone | None], None] = lambda entry, error, done: None
        self.written = self.commits = 0
        self.kept: dict[int, Entry] = {}
        self.kept_bytes = 0
        self._wall_ms = wall_ms
        self._window_ms = int(options.dedup_window * 1000)
        self._probe_every = options.probe_every
        self._step = options.commit_delay / 2
        self._fresh: list[Entry] = []
        self._aged: list[Entry] = []
        self._now: list[Entry] = []
        self._keys: list[tuple[tuple[str, str, bytes, int], PutDone]] = []
        self._deletes: list[int] = []
        self._ticking = self._busy = self._soon = self._urgent = self._closing = False
        self._timers: list[asyncio.TimerHandle] = []
        self._idle: list[asyncio.Future[None]] = []

    def start(self, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop

    # From the broker

    def add(self, entry: Entry, *, at_once: bool) -> None:
        """A row for `entry`, unless it is confirmed first; `at_once`: nobody is there who could."""
        if at_once or not self._step:
            self._now.append(entry)
            if not self._soon and not self._busy:
                self._soon = True
                self._loop.call_soon(self._hand_over)
        else:
            self._fresh.append(entry)
            if not self._ticking:
                self._ticking = True
                self._loop.call_later(self._step, self._tick)

    def add_key(self, key: tuple[str, str], answer: bytes, done: PutDone) -> None:
        """A dedup row, in one commit with the rows that were added at once before it."""
        self._keys.append(((*key, answer, self._wall_ms()), done))
        if not self._soon and not self._busy:
            self._soon = True
            self._loop.call_soon(self._hand_over)

    def remove(self, seq: int) -> None:
        """The row is no longer needed: it goes with one of the next commits, within about half a second."""
        if not self._deletes:
            self._loop.call_later(_DELETES_AFTER, self._flush_deletes)
        self._deletes.append(seq)
        if len(self._deletes) == _MANY_DELETES:
            self._flush_deletes()

    def keep(self, entry: Entry) -> None:
        """Its mailbox has only a stub of it: here it stays until the row can be read."""
        slot = slot_of(entry)
        if slot.row in (QUEUED, WRITING) and slot.seq not in self.kept:
            self.kept[slot.seq] = entry
            self.kept_bytes += entry.message.size
            if self.kept_bytes > BACKLOG and self.refusal is None:
                self.refusal = _BUSY

    # When

    def _tick(self) -> None:
        ripe = self._alive(self._aged)
        self._aged, self._fresh = self._alive(self._fresh), []
        if ripe:
            self._hop(ripe, _HOPS)
        if self._aged and not self._closing:
            self._loop.call_later(self._step, self._tick)
        else:
            self._ticking = False

    def _hop(self, ripe: list[Entry], left: int) -> None:
        if left:
            self._loop.call_soon(self._hop, ripe, left - 1)
            return
        self._now.extend(self._alive(ripe))
        self._hand_over()

    def _alive(self, entries: list[Entry]) -> list[Entry]:
        """Those that still need their row."""
        return [entry for entry in entries if entry.slot.state != GONE]  # type: ignore[attr-defined]

    def _flush_deletes(self) -> None:
        self._urgent = bool(self._deletes)
        self._hand_over()

    def _hand_over(self) -> None:
        """Gives the writer its next batch, when it has none and there is one."""
        self._soon = False
        if self._busy or self.trouble is not None:
            return
        if self._now or self._keys or self._urgent:
            batch = self._cut()
            if batch.rows or batch.keys or batch.deletes:
                self._submit(batch)
                return
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    def _submit(self, batch: Batch) -> None:
        self._busy = True
        self._writer.submit(batch)

    def _cut(self) -> Batch:
        """A batch of what waits. With dedup rows it is all of it: theirs and their messages' are never torn apart."""
        batch = Batch()
        limit = len(self._now) if self._keys else _MAX_ROWS
        taken, self._now = self._now[:limit], self._now[limit:]
        for entry in taken:
            slot = slot_of(entry)
            if slot.state == GONE:
                self._drop_kept(slot.seq)
                continue
            slot.row = WRITING
            data = encode_row(slot.seq, entry.address, entry.message)
            batch.entries.append(entry)
            batch.rows += (slot.seq, data)
            batch.size += len(data)
        for key, done in self._keys:
            batch.keys.append(key)
            batch.keys_done.append(done)
            batch.forget_before = key[3] - self._window_ms
        self._keys = []
        batch.deletes, self._deletes = self._deletes[:_MAX_DELETES], self._deletes[_MAX_DELETES:]
        self._urgent = len(self._deletes) >= _MANY_DELETES or (self._closing and bool(self._deletes))
        if self._deletes and not self._urgent:
            self._loop.call_later(_DELETES_AFTER, self._flush_deletes)
        return batch

    def _drop_kept(self, seq: int) -> None:
        entry = self.kept.pop(seq, None)
        if entry is not None:
            self.kept_bytes -= entry.message.size
            if self.refusal is _BUSY and self.kept_bytes < BACKLOG // 2:
                self.refusal = self.trouble

    # Back from the writer

    def written_back(self, batch: Batch, error: StorageError | None) -> None:
        """The writer's `done`."""
        self._busy = False
        if error is not None:
            self._deletes = batch.deletes + self._deletes
            try:
                self.fail(error)
            finally:  # whoever hears of the trouble may raise: senders are told all the same
                self._refuse(batch.entries, batch.keys_done, error)
        else:
            self.written += len(batch.entries)
            self.commits += 1
            if batch.probe:
                self._recover()
            self._confirm(batch)
        self._hand_over()

    def _confirm(self, batch: Batch) -> None:
        kept = self.kept
        for entry in batch.entries:
            slot = slot_of(entry)
            slot.row = WRITTEN
            if kept:
                self._drop_kept(slot.seq)
            done = slot.done
            if done is not None:
                slot.done = None
                done(SAFE)
        for done in batch.keys_done:
            done(SAFE)

    # Trouble

    def fail(self, error: StorageError) -> None:
        """Nothing is taken from now on; what was not written is refused, what is on disk can be read and delivered."""
        if isinstance(self.trouble, StorageFailed):
            return
        news = self.trouble is None or isinstance(error, StorageFailed)
        self.trouble = self.refusal = error
        keys = [done for _, done in self._keys]
        entries = self._fresh + self._aged + self._now
        self._fresh, self._aged, self._now, self._keys = [], [], [], []
        self._refuse(entries, keys, error)
        if not isinstance(error, StorageFailed) and not self._closing:
            self._loop.call_later(self._probe_every, self._probe)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()
        if news:
            self.on_trouble(error)

    def _refuse(self, entries: Sequence[Entry], keys: Sequence[PutDone], error: StorageError) -> None:
        for entry in entries:
            slot = slot_of(entry)
            if slot.row not in (QUEUED, WRITING):
                continue
            self._drop_kept(slot.seq)
            if slot.state == GONE:
                continue
            done, slot.done = slot.done, None
            slot.row = UNTOLD if done is None else LOST
            if slot.state in (WAITING, COLD):
                slot.box.withdraw(entry, slot)
                self.on_refused(entry, error, done)
            elif done is not None:
                done(PutResult({entry.address: error}))
        for told in keys:
            told(PutResult({"": error}))

    def _probe(self) -> None:
        if self.trouble is None or isinstance(self.trouble, StorageFailed) or self._busy or self._closing:
            return
        batch = Batch()
        batch.probe = True
        batch.deletes, self._deletes = self._deletes[:_MAX_DELETES], self._deletes[_MAX_DELETES:]
        self._submit(batch)

    def _recover(self) -> None:
        self.trouble = self.refusal = None
        self._urgent = bool(self._deletes)
        self.on_trouble(None)

    # End

    async def close(self) -> None:
        """All that waits for a row gets it first."""
        self._closing = True
        self._now += self._alive(self._fresh) + self._alive(self._aged)
        self._fresh, self._aged = [], []
        self._urgent = bool(self._deletes)
        while (self._busy or self._now or self._keys or self._deletes) and self.trouble is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            self._urgent = bool(self._deletes)
            self._hand_over()
            await waiter
        self._writer.submit(None)
        await self._loop.run_in_executor(None, self._writer.join)
