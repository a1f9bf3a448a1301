"""What is on disk only, brought back: pages for a reader, single messages for their end, a mailbox for a look."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from smart_router.brokers.base import End, Entry
from smart_router.brokers.lane import NEVER, Lane, Stub
from smart_router.brokers.rows import CorruptRow, decode_row
from smart_router.brokers.slot import COLD, WRITTEN, Slot
from smart_router.brokers.waiting import PAGE, PAGE_BYTES, Waiting
from smart_router.brokers.writer import Reader
from smart_router.errors import StorageError

__all__ = ["Pages"]

_End = tuple[Waiting, Stub, End, str]


class Pages:
    """`kept`: entries whose rows are not committed yet. `failed`: told when a row cannot be read."""

    def __init__(
        self,
        reader: Reader,
        kept: dict[int, Entry],
        end: Callable[[Entry, End, str], None],
        failed: Callable[[StorageError], None],
    ) -> None:
        self._reader = reader
        self._kept = kept
        self._end = end
        self._failed = failed
        self._endings: deque[_End] = deque()
        self._ending = False
        self._settled: list[asyncio.Future[None]] = []

    def load(self, box: Waiting, lane: Lane) -> None:
        """Fills the page of `lane`: at once with what is in memory still, else when the reader has brought it."""
        stubs = _that_fit(lane.stubs(PAGE - len(lane.page or ())))
        ready: dict[int, Entry | None] = {}
        for stub in stubs:
            if stub.seq not in self._kept:
                break
            ready[stub.seq] = self._kept[stub.seq]
        if ready:
            box.fill(lane, ready)
            return
        wanted = [stub for stub in stubs if stub.seq not in self._kept]
        box.loading = True

        def loaded(found: dict[int, Entry | None]) -> None:
            box.loading = False
            box.fill(lane, found)
            box.pump()

        self._read([(box, stub) for stub in wanted], loaded)

    def _read(self, wanted: list[tuple[Waiting, Stub]], done: Callable[[dict[int, Entry | None]], None]) -> None:
        def arrived(rows: dict[int, bytes], error: StorageError | None) -> None:
            if error is not None:
                self._failed(error)
            done({stub.seq: self._entry(box, stub, rows.get(stub.seq)) for box, stub in wanted})

        self._reader.submit([stub.seq for _, stub in wanted], arrived)

    def _entry(self, box: Waiting, stub: Stub, data: bytes | None) -> Entry | None:
        kept = self._kept.get(stub.seq)
        if kept is not None:
            return kept
        if data is None:
            return None
        try:
            address, message = decode_row(stub.seq, data)
        except CorruptRow as error:
            self._failed(error)
            return None
        entry = Entry(message, address, box.policy)
        stub.restore(entry)
        slot = Slot(box, stub.seq, WRITTEN, 0 if stub.deadline == NEVER else stub.deadline, None)
        slot.state = COLD
        entry.slot = slot
        return entry

    async def fetch(self, box: Waiting, stubs: Sequence[Stub]) -> dict[int, Entry]:
        """The entries of these stubs, which keep their place; those that can be read."""
        # Looked up now: a row may be written, and its entry let go, between the reader's look and its answer.
        kept = {stub.seq: entry for stub in stubs if (entry := self._kept.get(stub.seq)) is not None}
        if len(kept) == len(stubs):
            return kept
        future: asyncio.Future[dict[int, Entry | None]] = asyncio.get_running_loop().create_future()
        self._read([(box, stub) for stub in stubs if stub.seq not in kept], future.set_result)
        return {**kept, **{seq: entry for seq, entry in (await future).items() if entry is not None}}

    def end(self, box: Waiting, stub: Stub, end: End, reason: str) -> None:
        """Ends what a stub stood for, soon, and in the order of the calls."""
        kept = self._kept.get(stub.seq)
        if kept is not None:
            self._end(kept, end, reason)
            return
        self._endings.append((box, stub, end, reason))
        if not self._ending:
            self._ending = True
            asyncio.get_running_loop().call_soon(self._end_more)

    def _end_more(self) -> None:
        part = [self._endings.popleft() for _ in range(min(PAGE, len(self._endings)))]
        if not part:
            self._ending = False
            for waiter in self._settled:
                if not waiter.done():
                    waiter.set_result(None)
            self._settled.clear()
            return

        def loaded(found: dict[int, Entry | None]) -> None:
            for _, stub, end, reason in part:
                entry = found.get(stub.seq)
                if entry is not None:
                    self._end(entry, end, reason)
            self._end_more()

        self._read([(box, stub) for box, stub, _, _ in part], loaded)

    async def settled(self) -> None:
        """Returns when everything whose end was asked for has ended."""
        if self._ending:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settled.append(waiter)
            await waiter

    async def close(self) -> None:
        await self.settled()
        self._reader.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._reader.join)


def _that_fit(stubs: list[Stub]) -> list[Stub]:
    """As many as a page may hold in bytes, at least one."""
    size = 0
    for count, stub in enumerate(stubs):
        size += stub.size
        if size > PAGE_BYTES and count:
            return stubs[:count]
    return stubs
