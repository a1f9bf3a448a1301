"""One mailbox of the embedded broker: what waits, who takes, and in which order.

    put ──► nothing waits and credit? ──yes──► HELD by a subscription ──► ack: gone
                     │ no                          ▲            └─ release: to the front, or delayed
                     ▼                             │
              limits ──► lane of its priority ──► pump

With several lanes waiting, nine of ten deliveries go to the highest priority, the tenth to the lane whose first message
is the oldest: no lane starves. What came back goes before all of them.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from typing import Final, Protocol

import msgspec

from smart_router.brokers.base import Consumer, End, Entry, MailboxPolicy, Overflow
from smart_router.brokers.lane import FRONT, NEVER, SIZE, Lane, Stub, stub_of
from smart_router.brokers.slot import COLD, ENDED, GONE, HELD, LOST, NONE, UNTOLD, WAITING, Slot, slot_of
from smart_router.errors import Refused, RouterError

__all__ = ["PAGE", "PAGE_BYTES", "Host", "Mailbox", "MailboxSubscription"]

PAGE: Final = 512
PAGE_BYTES: Final = 256 * 1024
_FAIR_TURN: Final = 10
_SWEEP: Final = 500
_SWEEP_EVERY: Final = 0.2


class Host(Protocol):
    """What a mailbox needs of the broker around it."""

    def now(self) -> float: ...

    has_journal: bool

    def next_order(self) -> int: ...
    def watch(self, box: Mailbox) -> None: ...
    def load(self, box: Mailbox, lane: Lane) -> None:
        """Brings the first stubs of `lane` into its page, now or soon, then pumps."""

    def end(self, entry: Entry, end: End, reason: str) -> None: ...
    def end_stub(self, box: Mailbox, stub: Stub, end: End, reason: str) -> None: ...
    def keep_cold(self, entry: Entry) -> None:
        """A stub stands for `entry` from now on: keeps it only until its row is committed."""

    def vanish(self, box: Mailbox) -> None: ...
    def room(self, size: int) -> RouterError | None:
        """The refusal when that many bytes more in memory are too many."""

    def taken(self, size: int) -> None: ...
    def freed(self, size: int) -> None: ...


class MailboxSubscription:
    """One reader; `held`: what it was given and has not confirmed, in order."""

    __slots__ = ("box", "closed", "consumer", "credit", "held")

    def __init__(self, box: Mailbox, consumer: Consumer) -> None:
        self.box = box
        self.consumer = consumer
        self.credit = 0
        self.closed = False
        self.held: dict[Entry, None] = {}

    def grant(self, credit: int) -> None:
        ready = self.box.ready
        if self.closed or ready is None:
            return
        had, self.credit = self.credit, max(0, self.credit + credit)
        if not had and self.credit:
            ready.append(self)
        elif had and not self.credit:
            ready.remove(self)
        if self.box.depth and self.credit:
            self.box.pump()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.box.leave(self)


class Mailbox:
    """`depth`: what waits and is deliverable; `delayed` waits besides, until its time. `deadline`: clock.Deadlines."""

    __slots__ = (
        "_expiry",
        "_host",
        "_keys",
        "_lanes",
        "_pumping",
        "_quiet_at",
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
        self._quiet_at: float | None = None
        self._takes = 0
        self._pumping = False

    @property
    def durable(self) -> bool:
        return self.policy.durable and self._host.has_journal

    @property
    def waiting(self) -> int:
        return self.depth + len(self.delayed)

    @property
    def in_flight(self) -> int:
        return sum(len(sub.held) for sub in self.subs)

    @property
    def loaded(self) -> bool:
        """True with anything in memory."""
        return bool(self.subs or self.delayed or any(lane.page for lane in self._lanes))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return self._lanes

    def adopt(self, policy: MailboxPolicy) -> None:
        """Takes another policy; a mailbox with messages stays durable, or not, as it is."""
        if policy.durable != self.policy.durable and (self.waiting or self.in_flight):
            policy = msgspec.structs.replace(policy, durable=self.policy.durable)
        self.policy = policy

    # Readers

    def subscribe(self, consumer: Consumer) -> MailboxSubscription:
        sub = MailboxSubscription(self, consumer)
        self.subs = (*self.subs, sub)
        if self.ready is None:
            self.ready = deque()
        self._quiet_at = None
        return sub

    def leave(self, sub: MailboxSubscription) -> None:
        self.subs = tuple(other for other in self.subs if other is not sub)
        if self.ready is not None and sub in self.ready:
            self.ready.remove(sub)
        sub.credit = 0
        if not self.subs:
            self.ready = None
        self.release(list(sub.held))
        self.settle()

    # In

    def put(self, entry: Entry, slot: Slot) -> RouterError | None:
        """Lets it wait; or ends it, or says why it is refused (the caller forgets it then)."""
        size = entry.message.size
        if entry.message.supersede is not None:
            self._supersede(entry.message.supersede)
        if self._is_over(size) and not self._make_room(size):
            if self.policy.overflow is Overflow.REFUSE:
                return Refused("mailbox_full", f"{self.address} is full: try again later", address=self.address)
            self._host.end(entry, End.DROPPED, "overflow")
            return None
        if slot.row == NONE and (error := self._host.room(size)) is not None:
            return error
        self._enqueue(entry, slot, size)
        if self.ready:
            self.pump()
        elif not self.subs and slot.row == NONE:
            self.settle()
        return None

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

    def lane(self, priority: int) -> Lane:
        for lane in self._lanes:
            if lane.priority == priority:
                return lane
        made = Lane(priority)
        self._lanes = tuple(sorted((*self._lanes, made), key=lambda lane: -lane.priority))
        return made

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

    # Out

    def hand(self, entry: Entry, slot: Slot) -> None:
        """Gives it to the reader whose turn it is; there is one with credit."""
        ready = self.ready
        assert ready
        sub = ready[0]
        sub.credit -= 1
        if not sub.credit:
            ready.popleft()
        elif len(ready) > 1:
            ready.rotate(-1)
        slot.state = HELD
        slot.sub = sub
        if not slot.order:
            slot.order = self._host.next_order()
        sub.held[entry] = None
        sub.consumer.deliver(entry)

    def pump(self) -> None:
        """Delivers while something waits and somebody has credit."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.ready and self.depth:
                entry = self._take()
                if entry is None:
                    break
                slot = slot_of(entry)
                if slot.deadline and slot.deadline <= self._host.now() * 1000:
                    self._host.end(entry, End.EXPIRED, "ttl")
                else:
                    self.hand(entry, slot)
        finally:
            self._pumping = False

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

    # Back

    def release(self, entries: list[Entry], delay: float = 0.0) -> None:
        """What is held comes back, before all that waits; with a delay it waits for that first."""
        back: list[Entry] = []
        for entry in entries:
            slot = slot_of(entry)
            if slot.state != HELD or slot.sub is None:
                continue
            del slot.sub.held[entry]
            slot.sub = None
            if slot.row in (LOST, UNTOLD):
                slot.state = GONE
                if slot.row == UNTOLD:
                    self._host.end(entry, End.REFUSED, "storage_full")
                continue
            slot.state = WAITING
            entry.redelivered = True
            if self.deleted:
                self._host.end(entry, End.DROPPED, "purged")
            elif not self._is_outdated(entry, slot):
                self.bytes += entry.message.size
                back.append(entry)
        if delay > 0:
            self._delay(back, delay)
        elif back:
            self._to_front(back)
        if not self.subs:
            self._spill()
        elif self.ready and self.depth:
            self.pump()

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

    # Time

    def settle(self) -> None:
        """Begins or ends the time after which a mailbox that nobody reads goes; each call begins it anew."""
        idle = self.policy.idle_expiry
        empty = not self.waiting or not self.durable
        self._quiet_at = self._host.now() + idle if idle > 0 and empty and not self.subs and not self.deleted else None
        self._schedule()

    def _schedule(self) -> None:
        when = self._expiry / 1000 if self._expiry != NEVER else None
        for other in (self._quiet_at, self.delayed[0][0] if self.delayed else None):
            if other is not None and (when is None or other < when):
                when = other
        self.deadline = when
        self._host.watch(self)

    def handle_timer(self, now: float) -> None:
        """Brings back what was delayed, ends what expired (some hundred a turn), and goes when idle for long."""
        due = []
        while self.delayed and self.delayed[0][0] <= now:
            due.append(heapq.heappop(self.delayed)[2])
        if due:
            self._to_front(due)
        if self._expiry <= now * 1000:
            self._sweep(now)
        if self._quiet_at is not None and self._quiet_at <= now:
            self._quiet_at = None
            self.end_all(End.EXPIRED, "idle")
            self._host.vanish(self)
            return
        self._schedule()
        if self.ready and self.depth:
            self.pump()

    def _sweep(self, now: float) -> None:
        limit, ended, first = int(now * 1000), 0, NEVER
        for lane in self._lanes:
            entries, stubs = lane.due(limit, _SWEEP)
            for entry in entries:
                self.uncount(entry)
                self._host.end(entry, End.EXPIRED, "ttl")
            for stub in stubs:
                self._end_stub(stub, End.EXPIRED, "ttl")
            ended = max(ended, len(entries), len(stubs))
            first = min(first, lane.next_deadline())
        for item in [item for item in self.delayed if 0 < slot_of(item[2]).deadline <= limit]:
            self._undelay(item)
            self._host.end(item[2], End.EXPIRED, "ttl")
        first = min([first, *(slot_of(item[2]).deadline or NEVER for item in self.delayed)])
        pause = 0.0 if ended >= _SWEEP else _SWEEP_EVERY
        self._expiry = first if first == NEVER else max(first, int((now + pause) * 1000))
        if not self.subs and not self.waiting:
            self.settle()

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

    def take_out(self, entry: Entry) -> bool:
        """Takes a waiting entry, or the stub that stands for it, out of its place; False: it does not wait any more."""
        slot = slot_of(entry)
        before = self.waiting
        if slot.state in (WAITING, COLD):
            self.withdraw(entry, slot)
        if self.waiting == before:
            return False
        slot.state = ENDED
        return True

    def put_back(self, entry: Entry) -> None:
        """What was taken out waits again, first of all."""
        slot_of(entry).state = WAITING
        self.bytes += entry.message.size
        self._to_front([entry])
        if self.ready:
            self.pump()

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
