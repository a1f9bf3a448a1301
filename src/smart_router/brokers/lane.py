"""What waits in one mailbox with one priority: a page of entries in memory, and behind it stubs of those on disk only.

    taken ◄── page: Entry Entry Entry │ stubs: (seq, deadline, meta) (seq, deadline, meta) … ◄── put

A stub is three integers in one array (24 bytes): a million waiting messages cost 24 MB and no object each.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, NamedTuple

from smart_router.brokers.base import Entry
from smart_router.brokers.slot import slot_of

__all__ = ["FRONT", "NEVER", "REDELIVERED", "SIZE", "Lane", "Stub", "stub_of"]

FRONT: Final = 10
"""The priority of the lane for what came back: before all others (they are 0 to 9)."""

NEVER: Final = 1 << 62
SIZE: Final = (1 << 32) - 1
REDELIVERED: Final = 1 << 32
_COUNT: Final = (1 << 12) - 1
_WIDTH: Final = 3


class Stub(NamedTuple):
    seq: int
    deadline: int  # monotonic ms, NEVER for none
    meta: int

    @property
    def size(self) -> int:
        return self.meta & SIZE

    def restore(self, entry: Entry) -> None:
        """Gives the entry back what core had noted on it."""
        entry.redelivered = bool(self.meta & REDELIVERED)
        entry.attempts = self.meta >> 33 & _COUNT
        entry.deliveries = self.meta >> 45 & _COUNT


def stub_of(entry: Entry) -> Stub:
    slot = slot_of(entry)
    meta = entry.message.size | min(entry.attempts, _COUNT) << 33 | min(entry.deliveries, _COUNT) << 45
    return Stub(slot.seq, slot.deadline or NEVER, meta | REDELIVERED if entry.redelivered else meta)


class Lane:
    """Counts and bytes are the mailbox's; a lane only keeps order."""

    __slots__ = ("_head", "_stubs", "page", "priority")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.page: deque[Entry] | None = None
        self._stubs: array[int] | None = None
        self._head = 0

    def __len__(self) -> int:
        return (len(self.page) if self.page is not None else 0) + self.cold

    @property
    def cold(self) -> int:
        """Entries that are stubs only."""
        return (len(self._stubs) - self._head) // _WIDTH if self._stubs is not None else 0

    def push(self, entry: Entry) -> None:
        if self.page is None:
            self.page = deque()
        self.page.append(entry)

    def push_stub(self, stub: tuple[int, int, int]) -> None:
        if self._stubs is None:
            self._stubs = array("q")
        self._stubs.extend(stub)

    def insert(self, entries: list[Entry]) -> None:
        """Puts entries that came back among the page, by the order of their first delivery."""
        page = [*entries, *(self.page or ())]
        page.sort(key=lambda entry: slot_of(entry).order)
        self.page = deque(page)

    def spill(self, stubs: list[Stub]) -> None:
        """Replaces the page by `stubs`, in front of the stubs that were behind it."""
        self.page = None
        values = array("q", [value for stub in stubs for value in stub])
        if self._stubs is not None:
            values.extend(self._stubs[self._head :])
        self._stubs, self._head = values, 0

    def restore(self, stubs: array[int]) -> None:
        self._stubs, self._head = array("q", stubs), 0  # a copy has no spare room

    def stubs(self, limit: int, start: int = 0) -> list[Stub]:
        """The first stubs behind `start`, at most `limit`."""
        values = self._stubs
        if values is None:
            return []
        first = self._head + start * _WIDTH
        flat = values[first : first + limit * _WIDTH]
        return [Stub(*flat[i : i + _WIDTH]) for i in range(0, len(flat), _WIDTH)]

    def first_seq(self) -> int:
        """Of what stands first; NEVER when the lane is empty."""
        if self.page:
            return slot_of(self.page[0]).seq
        return self._stubs[self._head] if self._stubs is not None and self.cold else NEVER

    def pop_stub(self) -> Stub:
        values, head = self._stubs, self._head
        assert values is not None
        stub = Stub(values[head], values[head + 1], values[head + 2])
        self._head = head + _WIDTH
        if self._head >= len(values):
            self._stubs, self._head = None, 0
        elif self._head > 3072 and self._head * 2 > len(values):
            del values[: self._head]
            self._head = 0
        return stub

    def remove_stub(self, seq: int) -> Stub | None:
        """Takes the stub of `seq` out, wherever it stands."""
        values = self._stubs
        if values is None:
            return None
        try:
            index = values[0::_WIDTH].index(seq, self._head // _WIDTH) * _WIDTH
        except ValueError:
            return None
        stub = Stub(values[index], values[index + 1], values[index + 2])
        del values[index : index + _WIDTH]
        if self._head >= len(values):
            self._stubs, self._head = None, 0
        return stub

    def remove(self, entry: Entry) -> bool:
        """Takes an entry out of the page."""
        if self.page is None or entry not in self.page:
            return False
        self.page.remove(entry)
        return True

    def next_deadline(self) -> int:
        """The earliest deadline of all that waits here, NEVER for none."""
        found = NEVER
        if self.page:
            found = min(slot_of(entry).deadline or NEVER for entry in self.page)
        if self._stubs is not None and self.cold:
            found = min([found, *self._stubs[self._head + 1 :: _WIDTH]])
        return found

    def due(self, now: int, limit: int) -> tuple[list[Entry], list[Stub]]:
        """Takes out what has passed its deadline, at most about `limit` of each kind."""
        entries: list[Entry] = []
        if self.page:
            entries = [entry for entry in self.page if 0 < slot_of(entry).deadline <= now][:limit]
            for entry in entries:
                self.page.remove(entry)
        return entries, self._due_stubs(now, limit)

    def _due_stubs(self, now: int, limit: int) -> list[Stub]:
        found: list[Stub] = []
        while self.cold and len(found) < limit:
            assert self._stubs is not None
            if self._stubs[self._head + 1] > now:
                break
            found.append(self.pop_stub())
        if self._stubs is None or len(found) >= limit:
            return found
        deadlines = self._stubs[self._head + 1 :: _WIDTH]
        late = [number for number, deadline in enumerate(deadlines) if deadline <= now][: limit - len(found)]
        seqs = [self._stubs[self._head + number * _WIDTH] for number in late]
        found.extend(stub for seq in seqs if (stub := self.remove_stub(seq)) is not None)
        return found
