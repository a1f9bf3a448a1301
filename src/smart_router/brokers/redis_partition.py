"""One of the 256 parts of all mailboxes, as one node works with it: one call at a time, with all that came up.

    put, ack, release, grant … ─► Section per mailbox ─► Call ─► one script in Redis ─► answer ─► deliveries, results
                                      ▲                     │ no answer: the same call again, it is done once
                                      └── meanwhile, more ──┘ stale: somebody has buried this life: begin anew

A life is this node's in this partition: its lease is in Redis. What a life holds is its own until the lease has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from smart_router.brokers.base import Entry, PutDone, PutResult
from smart_router.brokers.redis_box import GONE, HELD, RELEASED, Box, RedisSubscription, Section, Slot
from smart_router.brokers.redis_call import Call
from smart_router.errors import BrokerAway, RouterError, StorageError, StorageFull
from smart_router.redis.base import NotNow, ReplyRefused, Unanswered

if TYPE_CHECKING:
    from smart_router.brokers.redis_answers import Answers

__all__ = ["Host", "Partition"]

_RETRY: Final = 0.05
_RESET: Final = 1.0
_SWEEP: Final = 1
_BURY: Final = 2


class Host(Protocol):
    """What a partition needs of the broker around it."""

    node: str
    lease: float
    answers: Answers

    def now_ms(self) -> float: ...
    def is_up(self) -> bool:
        """Redis can be asked; when it can be again, `resend` is called."""

    def wake_up(self, partition: Partition) -> None:
        """Its turn to call comes with this turn of the event loop."""

    def transmit(self, partition: Partition, call: Call, packed: bytes) -> None: ...
    def later(self, seconds: float, work: Callable[[], None]) -> None: ...
    def common_words(self) -> dict[str, Any]:
        """What each call says: prefix, dedup window and limit."""

    def refused(self, entry: Entry, done: PutDone | None, error: RouterError) -> None: ...
    def full(self, error: StorageFull | None) -> None:
        """Redis takes nothing more; None: it does again."""

    def settled(self, messages: int, size: int) -> None:
        """So many puts have their answer."""

    def forget(self, box: Box) -> None:
        """Nothing is known of this mailbox any more."""

    def confused(self, error: StorageError) -> None:
        """A call failed in a way that sending it again will not cure."""


class Partition:
    """See the module's text. `used`: somebody subscribes here, or something of it is held."""

    def __init__(self, number: int, host: Host) -> None:
        self.tag = f"{number:03d}"
        self.subscriptions = 0
        self.held = 0
        self.call: Call | None = None
        self.life = 1
        self.lease_until = 0.0
        self.sweeps = 0
        self.keys: list[tuple[bytes, bytes]] = []
        self.dirty: list[Box] = []
        self.doubtful: list[tuple[Call, list[Any]]] = []
        self.swept_at = 0.0
        self.boxes: dict[str, Box] = {}
        self.host = host
        self.known = False
        self.number = 0
        self._loop = asyncio.get_running_loop()

    @property
    def used(self) -> bool:
        return self.subscriptions > 0 or self.held > 0

    @property
    def idle(self) -> bool:
        return self.call is None and not self.dirty and not self.sweeps

    def ticket(self, subscription: RedisSubscription) -> str:
        return f"{self.host.node}.{self.life}/{subscription.number}"

    # What comes up

    def section(self, box: Box) -> Section:
        """What goes into the next call for this mailbox."""
        section = box.section
        if section is None:
            section = box.section = Section()
            if not self.dirty:
                self.host.wake_up(self)
            self.dirty.append(box)
        return section

    def want(self, box: Box) -> None:
        """There is credit: is there a message? An exclusive mailbox has it when its turn comes."""
        if box.credit() > 0:
            self.section(box)

    def ask(self, box: Box) -> None:
        """Whose turn is it, and what waits?"""
        self.section(box).asks = True

    def sweep(self, *, only_the_dead: bool = False) -> None:
        """What time does is done with the next call; or only: what dead nodes held comes back."""
        if not self.sweeps and not self.dirty:
            self.host.wake_up(self)
        if self.sweeps != _SWEEP:
            self.sweeps = _BURY if only_the_dead else _SWEEP

    def enter(self, subscription: RedisSubscription) -> None:
        box = subscription.box
        box.subscriptions = (*box.subscriptions, subscription)
        self.subscriptions += 1
        self.section(box).line.append("+" + self.ticket(subscription))

    def leave(self, subscription: RedisSubscription, *, keep: bool) -> None:
        box = subscription.box
        box.subscriptions = tuple(each for each in box.subscriptions if each is not subscription)
        self.subscriptions -= 1
        if box.holder is subscription:
            box.holder = None
        box.kept = tuple(each for each in box.kept if each.held)
        section = self.section(box)
        if keep:
            box.kept = (*box.kept, subscription)
        else:
            self.release(list(subscription.held.values()), 0.0)
        section.line.append("-" + self.ticket(subscription))

    def release(self, entries: list[Entry], due: float) -> None:
        """`due`: ms, 0: at once."""
        for entry in entries:
            slot = entry.slot
            if not isinstance(slot, Slot) or slot.state != HELD:
                continue
            if slot.life != self.life:
                slot.state = GONE
                continue
            slot.state = RELEASED
            entry.redelivered = True
            self.let_go(slot)
            self.section(slot.box).released.append((entry, due))

    def let_go(self, slot: Slot) -> None:
        """It is not held any more."""
        self.held -= 1
        if slot.subscription is not None:
            slot.subscription.held.pop(slot.number, None)
            slot.subscription = None

    # Calls

    def flush(self, *, bye: bool = False) -> None:
        """Sends what came up, unless a call is under way."""
        if self.call is not None or not (self.dirty or self.sweeps or bye):
            return
        dirty, self.dirty = self.dirty, []
        sections: list[tuple[Box, Section]] = []
        for box in dirty:
            if box.section is not None:
                sections.append((box, box.section))
                box.section = None
        keys, self.keys = self.keys, []
        self.call = Call(sections, keys, sweep=self.sweeps)
        self.sweeps = 0
        self.number += 1
        self.call.first_sent = self._loop.time()
        self._transmit(self.call, bye=bye)

    def _transmit(self, call: Call, *, bye: bool = False) -> None:
        call.sent = self._loop.time()
        if self.known and not self.used and call.sent > self.lease_until - self.host.lease / 2:
            self.known = False  # somebody may have buried it: nothing was held
        call.guest = not (call.sections or self.used)
        self.host.transmit(self, call, call.pack(self, bye=bye))

    # Answers

    def answered(self, answer: Any) -> None:
        call = self.call
        assert call is not None
        if isinstance(answer, StorageError):
            self._failed(call, answer)
        elif answer[0] == b"stale":
            self._stale(call)
        else:
            self.call = None
            self._succeeded(call, answer)
        if self.call is None and (self.dirty or self.sweeps):
            self.host.wake_up(self)

    def _settle(self, call: Call) -> None:
        for _, section in call.sections:
            if section.entries:
                self.host.settled(len(section.entries), section.bytes)

    def _succeeded(self, call: Call, answer: list[Any]) -> None:
        self._settle(call)
        if not call.when_full:
            self.host.full(None)
        now = self._loop.time()
        late = now > call.sent + self.host.lease
        if not call.guest:
            self.known = True
            self.lease_until = call.sent + self.host.lease
        if call.sweep:
            self.swept_at = now
        if late:  # this process stood still: is what the answer holds still ours?
            self.doubtful.append((call, answer))
            self.sweep()
            return
        for earlier, held_back in self.doubtful:
            self.host.answers.take(self, earlier, held_back)
        self.doubtful.clear()
        self.host.answers.take(self, call, answer)

    def _failed(self, call: Call, error: StorageError) -> None:
        if isinstance(error, StorageFull):
            self.host.full(error)
            self._refuse_puts(call, error)
            if not call.when_full:
                call.when_full = True
                self._transmit(call)
            else:
                self.host.later(_RETRY * 10, self.resend)
        elif isinstance(error, NotNow):
            call.retry = True
            self.host.later(_RETRY, self.resend)
        elif isinstance(error, ReplyRefused):
            self.host.confused(error)
            self._refuse_puts(call, error)
            self._settle(call)
            self.call = None
            self.host.later(_RESET, self.begin_anew)
        else:
            call.retry = call.retry or isinstance(error, Unanswered)
            if self.host.is_up():  # only the way to this partition has changed
                self.host.later(_RETRY, self.resend)

    def resend(self) -> None:
        """The same call again. After its lease Redis may have forgotten that it was done: then no put is repeated."""
        call = self.call
        if call is None:
            return
        if call.retry and self._loop.time() - call.first_sent > self.host.lease * 0.9:
            self._refuse_puts(call, BrokerAway("Redis did not answer in time: the message may have arrived, or not"))
        self._transmit(call)

    def give_up_puts(self, error: RouterError) -> None:
        """They have waited for too long: their senders are told. Should Redis have them, they are delivered."""
        if self.call is not None:
            self.call.retry = True
            self._refuse_puts(self.call, error)
        for box in self.dirty:
            if box.section is not None:
                self._refuse_section(box.section, error)
        self.keys.clear()

    def _refuse_puts(self, call: Call, error: RouterError) -> None:
        call.refuse = True
        for _, section in call.sections:
            for number, (entry, done) in enumerate(section.entries):
                if done is not _told:
                    self.host.refused(entry, done, error)
                section.entries[number] = (entry, _told)
        call.keys = [(key, b"") for key, _ in call.keys]

    def _refuse_section(self, section: Section, error: RouterError) -> None:
        entries, section.entries, section.puts = section.entries, [], []
        self.host.settled(len(entries), section.bytes)
        section.bytes = 0
        for entry, done in entries:
            self.host.refused(entry, done, error)

    # A life ends

    def _stale(self, call: Call) -> None:
        """Nothing of the call was done, and nothing that was held is ours any more."""
        self.call = None
        for earlier, held_back in self.doubtful:
            self.host.answers.take(self, earlier, held_back, ours=False)
        self.doubtful.clear()
        again = [(box, section) for box, section in call.sections]
        self.begin_anew()
        self._put_again(call, again)

    def _put_again(self, call: Call, sections: list[tuple[Box, Section]]) -> None:
        base = len(self.keys)
        if not call.refuse:
            self.keys.extend(call.keys)
        for box, section in sections:
            mine = self.section(box)
            if section.entries and not call.refuse:
                puts = list(section.puts)
                for place in range(2, len(puts), 3):
                    number = puts[place]
                    assert isinstance(number, int)
                    puts[place] = number + base if number else 0
                mine.puts = puts + mine.puts
                mine.entries = section.entries + mine.entries
                mine.bytes += section.bytes
            elif section.entries:
                self.host.settled(len(section.entries), section.bytes)
            if section.answer is not None:
                mine.operation, mine.answer = section.operation, section.answer

    def begin_anew(self) -> None:
        """A new life: subscriptions stand in line again, what was held is forgotten."""
        self.life += 1
        self.known, self.number = False, 0
        self.held = 0
        for box in self.boxes.values():
            section = box.section
            if section is not None:
                section.acks, section.withdrawn, section.released, section.line = [], [], [], []
            box.holder, box.hungry, box.kept = None, False, ()
            if box.subscriptions:
                for subscription in box.subscriptions:
                    subscription.held.clear()
                self.section(box).line = ["+" + self.ticket(each) for each in box.subscriptions]
        self.sweep()
        self.host.wake_up(self)


def _told(_result: PutResult) -> None:
    """The sender has its answer."""
