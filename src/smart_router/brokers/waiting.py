"""What waits in one mailbox: its lanes, its limits, its keys, and how each message in it ends.

With several lanes waiting, nine of ten deliveries go to the highest priority, the tenth to the lane whose first message
is the oldest: no lane starves. What came back goes before all of them.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from smart_router.brokers.base import End, Entry, MailboxPolicy, Overflow
from smart_router.brokers.lane import FRONT, NEVER, SIZE, Lane, Stub, stub_of
from smart_router.brokers.slot import COLD, NONE, WAITING, Slot, slot_of
from smart_router.errors import RouterError

if TYPE_CHECKING:
    from smart_router.brokers.mailbox import MailboxSubscription

__all__ = ["PAGE", "PAGE_BYTES", "Host", "Waiting"]

PAGE: Final = 512
PAGE_BYTES: Final = 256 * 1024
_FAIR_TURN: Final = 10


class Host(Protocol):
    """What a mailbox needs of the broker around it."""

    def now(self) -> float: ...

    has_journal: bool

    order: Iterator[int]
    """Numbers of first deliveries."""

    def watch(self, box: Waiting) -> None: ...
    def load(self, box: Waiting, lane: Lane) -> None:
        """Brings the first stubs of `lane` into its page, now or soon, then pumps."""

    def end(self, entry: Entry, end: End, reason: str) -> None: ...
    def end_stub(self, box: Waiting, stub: Stub, end: End, reason: str) -> None: ...
    def keep_cold(self, entry: Entry) -> None:
        """A stub stands for `entry` from now on: keeps it only until its row is committed."""

    def vanish(self, box: Waiting) -> None: ...
    def room(self, size: int) -> RouterError | None:
        """The refusal when that many bytes more in memory are too many."""

    def taken(self, size: int) -> None: ...
    def freed(self, size: int) -> None: ...


class Waiting(ABC):
    """`depth`: what waits and is deliverable; `delayed` waits besides, until its time. `deadline`: clock.Deadlines."""

    __slots__ = (
        "_expiry",
        "_host",
        "_keys",
        "_lanes",
        "_takes",
        "address",
        "bytes",
        "deadline",
        "delayed",
        "deleted",
        "depth",
        "loading",
        "page_bytes",
        "policy",
        "queued",
        "ready",
        "subs",
    )

    def __init__(self, address: str, policy: MailboxPolicy, host: Host) -> None:
        self.address = address
        self.policy = policy
        self._host = host
        self.depth = 0
        self.bytes = 0
        self.page_bytes = 0
        self.ready: deque[MailboxSubscription] | None = None
        self.subs: tuple[MailboxSubscription, ...] = ()
        self.delayed: list[tuple[float, int, Entry]] = []
        self.loading = False
        self.deleted = False
        self.deadline: float | None = None
        self.queued: float | None = None
        self._lanes: tuple[Lane, ...] = ()
        self._keys: dict[str, int] | None = None
        self._expiry = NEVER
        self._takes = 0

    @abstractmethod
    def pump(self) -> None: ...

    @abstractmethod
    def settle(self) -> None: ...

    @abstractmethod
    def release(self, entries: list[Entry], delay: float = 0.0) -> None: ...

    @abstractmethod
    def handle_timer(self, now: float) -> None: ...

    @abstractmethod
    def _schedule(self) -> None: ...

    @property
    def durable(self) -> bool:
        return self.policy.durable and self._host.has_journal

    @property
    def waiting(self) -> int:
        return self.depth + len(self.delayed)

    def lane(self, priority: int) -> Lane:
        for lane in self._lanes:
            if lane.priority == priority:
                return lane
        made = Lane(priority)
        self._lanes = tuple(sorted((*self._lanes, made), key=lambda lane: -lane.priority))
        return made

    def restore(self, priority: int, stubs: array[int]) -> None:
        """Messages found on disk at the start."""
        self.lane(priority).restore(stubs)
        self.depth += len(stubs) // 3
        self.bytes += sum(meta & SIZE for meta in stubs[2::3])
        self.note_deadline(min(stubs[1::3]))

    def all_waiting(self) -> list[Entry | Stub]:
        found: list[Entry | Stub] = [item[2] for item in self.delayed]
        for lane in self._lanes:
            found.extend(lane.page or ())
            found.extend(lane.stubs(lane.cold))
        return found

    def _enqueue(self, entry: Entry, slot: Slot, size: int) -> None:
        self.depth += 1
        self.bytes += size
        lane = self.lane(min(max(entry.message.priority, 0), 9))
        page = len(lane.page) if lane.page is not None else 0
        if slot.row != NONE and (not self.subs or lane.cold or page >= PAGE or self.page_bytes >= PAGE_BYTES):
            slot.state = COLD
            lane.push_stub(stub_of(entry))
            self._host.keep_cold(entry)
        else:
            slot.state = WAITING
            lane.push(entry)
            self.page_bytes += size
            if slot.row == NONE:
                self._host.taken(size)
        if entry.message.supersede is not None:
            self.note_key(entry.message.supersede, slot.seq)
        self.note_deadline(slot.deadline)

    def note_key(self, key: str, seq: int) -> None:
        if self._keys is None:
            self._keys = {}
        self._keys[key] = seq

    def note_deadline(self, deadline: int) -> None:
        if 0 < deadline < self._expiry:
            self._expiry = deadline
            self._schedule()

    def _is_over(self, size: int) -> bool:
        policy, waiting = self.policy, self.waiting
        if self.ready:
            waiting = max(0, waiting - sum(sub.credit for sub in self.ready))
            if not waiting:
                return False
        too_many = 0 < policy.max_messages <= waiting
        return too_many or (0 < policy.max_bytes < self.bytes + size)

    def _make_room(self, size: int) -> bool:
        """Drops the oldest, as the policy says; what came back only when nothing else waits. False: no room."""
        if self.policy.overflow is not Overflow.DROP_OLDEST or 0 < self.policy.max_bytes < size:
            return False
        while self._is_over(size):
            filled = [lane for lane in self._lanes if len(lane)]
            lanes = [lane for lane in filled if lane.priority != FRONT] or filled
            if not lanes:
                return False
            self._end_first(min(lanes, key=Lane.first_seq), End.DROPPED, "overflow")
        return True

    def _take(self) -> Entry | None:
        """The next to deliver; None while it is on its way from the disk."""
        lane = self._choose()
        if lane.cold and len(lane.page or ()) <= PAGE // 2 and not self.loading:
            self._host.load(self, lane)
        if not lane.page:
            return None
        self._takes += 1
        entry = lane.page.popleft()
        self.uncount(entry)
        return entry

    def _choose(self) -> Lane:
        filled = [lane for lane in self._lanes if lane.page or lane.cold]
        if len(filled) > 1 and filled[0].priority != FRONT and self._takes % _FAIR_TURN == _FAIR_TURN - 1:
            return min(filled, key=Lane.first_seq)
        return filled[0]

    def uncount(self, entry: Entry) -> None:
        """It waits in the page no longer."""
        size = entry.message.size
        self.depth -= 1
        self.bytes -= size
        self.page_bytes -= size
        slot = slot_of(entry)
        if slot.row == NONE:
            self._host.freed(size)
        if self._keys and self._keys.get(entry.message.supersede or "") == slot.seq:
            del self._keys[entry.message.supersede or ""]

    def fill(self, lane: Lane, entries: dict[int, Entry | None]) -> None:
        """Loaded entries take the place of their stubs; None: the row cannot be read and counts no longer."""
        for stub in lane.stubs(len(entries)):
            if stub.seq not in entries:
                break
            lane.pop_stub()
            entry = entries[stub.seq]
            if entry is None:
                self.depth -= 1
                self.bytes -= stub.size
                continue
            slot = slot_of(entry)
            slot.state = WAITING
            lane.push(entry)
            self.page_bytes += stub.size

    def _is_outdated(self, entry: Entry, slot: Slot) -> bool:
        """A newer message with its key waits already: it ends. Otherwise its key is noted."""
        key = entry.message.supersede
        if key is None:
            return False
        newer = self._keys.get(key, 0) if self._keys else 0
        if newer > slot.seq:
            self._host.end(entry, End.SUPERSEDED, "superseded")
            return True
        if newer:
            self._supersede(key)
        self.note_key(key, slot.seq)
        return False

    def _delay(self, entries: list[Entry], delay: float) -> None:
        due = self._host.now() + delay
        for entry in entries:
            slot = slot_of(entry)
            heapq.heappush(self.delayed, (due, slot.order, entry))
            self.note_deadline(slot.deadline)
        self._schedule()

    def _to_front(self, entries: list[Entry]) -> None:
        self.depth += len(entries)
        self.lane(FRONT).insert(entries)
        for entry in entries:
            slot = slot_of(entry)
            size = entry.message.size
            self.page_bytes += size
            if slot.row == NONE:
                self._host.taken(size)
            self.note_deadline(slot.deadline)

    def _undelay(self, item: tuple[float, int, Entry]) -> None:
        self.delayed.remove(item)
        heapq.heapify(self.delayed)
        self.bytes -= item[2].message.size

    def _spill(self) -> None:
        """Nobody reads here: what is on disk, or soon will be, leaves the memory."""
        if not self.durable:
            return
        for lane in self._lanes:
            if not lane.page:
                continue
            stubs = []
            for entry in lane.page:
                stubs.append(stub_of(entry))
                slot_of(entry).state = COLD
                self._host.keep_cold(entry)
            lane.spill(stubs)
        self.page_bytes = 0

    def withdraw(self, entry: Entry, slot: Slot) -> None:
        """Takes a waiting entry out: it was confirmed after all."""
        for lane in self._lanes:
            if slot.state == COLD:
                stub = lane.remove_stub(slot.seq)
                if stub is not None:
                    self.depth -= 1
                    self.bytes -= stub.size
                    break
            elif lane.remove(entry):
                self.uncount(entry)
                break
        else:
            for item in self.delayed:
                if item[2] is entry:
                    self._undelay(item)
                    break
        self.settle()

    def _end_first(self, lane: Lane, end: End, reason: str) -> None:
        if lane.page:
            entry = lane.page.popleft()
            self.uncount(entry)
            self._host.end(entry, end, reason)
        else:
            self._end_stub(lane.pop_stub(), end, reason)

    def _end_stub(self, stub: Stub, end: End, reason: str) -> None:
        self.depth -= 1
        self.bytes -= stub.size
        self._host.end_stub(self, stub, end, reason)

    def _supersede(self, key: str) -> None:
        seq = self._keys.pop(key, None) if self._keys else None
        if seq is not None:
            self._end_seq(seq, End.SUPERSEDED, "superseded")

    def _end_seq(self, seq: int, end: End, reason: str) -> None:
        for lane in self._lanes:
            for entry in lane.page or ():
                if slot_of(entry).seq == seq:
                    lane.remove(entry)
                    self.uncount(entry)
                    self._host.end(entry, end, reason)
                    return
            stub = lane.remove_stub(seq)
            if stub is not None:
                self._end_stub(stub, end, reason)
                return
        for item in self.delayed:
            if slot_of(item[2]).seq == seq:
                self._undelay(item)
                self._host.end(item[2], end, reason)
                return

    def end_all(self, end: End, reason: str) -> int:
        """Ends all that waits; how many."""
        ended = self.waiting
        for lane in self._lanes:
            while len(lane):
                self._end_first(lane, end, reason)
        for item in list(self.delayed):
            self._undelay(item)
            self._host.end(item[2], end, reason)
        self._keys = None
        return ended
