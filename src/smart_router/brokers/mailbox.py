"""One mailbox of the embedded broker: what waits, who takes, and in which order.

put ──► nothing waits and credit? ──yes──► HELD by a subscription ──► ack: gone
                 │ no                          ▲            └─ release: to the front, or delayed
                 ▼                             │
          limits ──► lane of its priority ──► pump
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final

import msgspec

from smart_router.brokers.base import Consumer, End, Entry, MailboxPolicy, Overflow
from smart_router.brokers.lane import NEVER
from smart_router.brokers.slot import COLD, ENDED, GONE, HELD, LOST, NONE, UNTOLD, WAITING, Slot, slot_of
from smart_router.brokers.waiting import Host, Waiting
from smart_router.errors import Refused, RouterError

__all__ = ["Mailbox", "MailboxSubscription"]

_SWEEP: Final = 500
_SWEEP_EVERY: Final = 0.2


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
        if self.box.policy.exclusive and self.box.subs[0] is not self:
            return  # its turn comes
        if not had and self.credit:
            ready.append(self)
        elif had and not self.credit:
            ready.remove(self)
        if self.box.depth and self.credit:
            self.box.pump()

    def close(self, *, keep: bool = False) -> None:
        if not self.closed:
            self.closed = True
            self.box.leave(self, keep=keep)


class Mailbox(Waiting):
    """What waits, and who takes it when."""

    __slots__ = ("_kept", "_pumping", "_quiet_at")

    def __init__(self, address: str, policy: MailboxPolicy, host: Host) -> None:
        super().__init__(address, policy, host)
        self._quiet_at: float | None = None
        self._pumping = False
        self._kept: tuple[MailboxSubscription, ...] = ()

    @property
    def in_flight(self) -> int:
        return sum(len(sub.held) for sub in (*self.subs, *self._kept))

    @property
    def loaded(self) -> bool:
        """True with anything in memory."""
        return bool(self.subs or self.delayed or any(lane.page for lane in self._lanes))

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

    def leave(self, sub: MailboxSubscription, *, keep: bool = False) -> None:
        self.subs = tuple(other for other in self.subs if other is not sub)
        if self.ready is not None and sub in self.ready:
            self.ready.remove(sub)
        sub.credit = 0
        if not self.subs:
            self.ready = None
        elif self.ready is not None and self.policy.exclusive and self.subs[0].credit and not self.ready:
            self.ready.append(self.subs[0])
        self._kept = tuple(other for other in self._kept if other.held)
        if keep:
            self._kept = (*self._kept, sub)
        self.release([] if keep else list(sub.held))
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
            slot.order = next(self._host.order)
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
            if self._may_wait_again(entry, slot):
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

    def _may_wait_again(self, entry: Entry, slot: Slot) -> bool:
        """False: it ended on its return, or was never kept."""
        if slot.row in (LOST, UNTOLD):
            slot.state = GONE
            if slot.row == UNTOLD:
                self._host.end(entry, End.REFUSED, "storage_full")
            return False
        slot.state = WAITING
        entry.redelivered = True
        if self.deleted:
            self._host.end(entry, End.DROPPED, "purged")
            return False
        return not self._is_outdated(entry, slot)

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
            if self.in_flight:  # closed, and something kept
                self.settle()
                return
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
