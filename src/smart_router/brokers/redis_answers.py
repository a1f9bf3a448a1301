"""What Redis answers to a call becomes deliveries, results of puts, and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from smart_router.brokers.base import End, Entry, MailboxPolicy, OnEnd, OnRemoved, PutDone, PutResult
from smart_router.brokers.redis_box import ENDED, HELD, PUT, Box, Section, Slot
from smart_router.brokers.redis_rows import ForeignRow, decode_row
from smart_router.errors import Refused
from smart_router.message import Message

if TYPE_CHECKING:
    from smart_router.brokers.redis_call import Call
    from smart_router.brokers.redis_partition import Partition

__all__ = ["Answers"]

_SAFE: Final = PutResult({})
_UNKNOWN: Final = MailboxPolicy()
_ENDS: Final = {
    b"t": (End.EXPIRED, "ttl"),
    b"i": (End.EXPIRED, "idle"),
    b"o": (End.DROPPED, "overflow"),
    b"p": (End.DROPPED, "purged"),
    b"s": (End.SUPERSEDED, "superseded"),
    b"F": (End.FAILED, "foreign"),
}
_PICKED: Final = b"k"
_HANDED, _WAITS, _REFUSED, _DROPPED, _REPEAT = b"hwrdu"


class Answers:
    """Attributes are the broker's, set before the first call."""

    def __init__(self) -> None:
        self.on_end: OnEnd = lambda _entry, _end, _reason: None
        self.on_removed: OnRemoved = lambda _address: None
        self.on_error: Callable[[Exception], None] = lambda _error: None
        self.ended = 0
        self.foreign = 0

    def take(self, partition: Partition, call: Call, answer: list[Any], *, ours: bool = True) -> None:
        """`ours` False: what was handed out is another's by now; only the results of puts count."""
        answers = answer[2]
        known = answer[3]
        for (box, section), told in zip(call.sections, answers, strict=False):
            self._take_section(partition, box, section, told, known, ours=ours)
        for told in answers[len(call.sections) :]:
            address = told[0].decode()
            box = partition.boxes.get(address) or Box(address, partition)
            self._take_section(partition, box, _EMPTY, told, known, ours=ours)
        if answer[4]:
            self._look_further(partition, answer[4])

    def _look_further(self, partition: Partition, swept: list[Any]) -> None:
        if swept[0]:
            partition.sweep()
        for name in swept[1]:
            box = partition.boxes.get(name.decode())
            if box is not None and box.subscriptions:
                partition.ask(box)

    def _take_section(
        self, partition: Partition, box: Box, section: Section, told: list[Any], known: list[Any], *, ours: bool
    ) -> None:
        _, exists, waiting, hungry, head, first, statuses, taken, ended, removed, delayed = told
        if ours:
            self._note(box, bool(exists), waiting + delayed, hungry, head)
            box.waiting = waiting
        if taken and ours:
            self._deliver_taken(partition, box, taken)
        if statuses:
            self._results(partition, box, section, (first, statuses), known, ours=ours)
        if ended and ours:
            self._ends(partition, box, section, ended)
        elif section.answer is not None and not section.answer.done():
            section.answer.set_result([])
        for subscription in box.subscriptions:
            if subscription.standing is not None and not subscription.standing.done():
                subscription.standing.set_result(None)
        if ours:
            self._go_on(partition, box, removed=bool(removed))

    def _note(self, box: Box, exists: bool, waiting: int, hungry: int, head: bytes | None) -> None:
        if box.exists and not exists:
            self.on_removed(box.address)
        box.exists = exists
        box.hungry = bool(hungry)
        if head is not None:
            box.note_turn(head.decode())

    def _go_on(self, partition: Partition, box: Box, *, removed: bool) -> None:
        if not box.exists:
            for subscription in box.subscriptions:
                subscription.close()
            if removed or (box.section is None and not box.subscriptions):
                partition.host.forget(box)
            return
        if box.section is None and (box.waiting or not box.hungry) and box.subscriptions and box.credit() > 0:
            partition.section(box)

    # Puts

    def _results(
        self,
        partition: Partition,
        box: Box,
        section: Section,
        put: tuple[int, bytes],
        known: list[Any],
        *,
        ours: bool,
    ) -> None:
        first, statuses = put
        puts = section.puts
        for place, (status, (entry, done)) in enumerate(zip(statuses, section.entries, strict=False)):
            if status == _HANDED:
                if ours:
                    lane = puts[place * 3]
                    assert isinstance(lane, int)
                    slot = entry.slot
                    if not isinstance(slot, Slot):
                        slot = entry.slot = Slot(box, 0, 0, PUT)
                    slot.life, slot.number = partition.life, (first + place) * 10 + lane
                    self._hand(partition, box, entry, slot)
                if done is not None:
                    self._tell(done, _SAFE)
            else:
                self._result(status, entry, done, puts[place * 3 + 2], known)

    def _result(self, status: int, entry: Entry, done: PutDone | None, key: object, known: list[Any]) -> None:
        if status == _REFUSED:
            text = f"{entry.address} is full: try again later"
            error = Refused("mailbox_full", text, address=entry.address)
            if done is not None:
                self._tell(done, PutResult({entry.address: error}))
            else:
                self.on_end(entry, End.REFUSED, error.code)
        elif done is not None:
            assert isinstance(key, int)
            self._tell(done, PutResult({}, known[key - 1]) if status == _REPEAT else _SAFE)

    def _tell(self, done: PutDone, result: PutResult) -> None:
        try:
            done(result)
        except Exception as error:  # noqa: BLE001 (as below)
            self.on_error(error)

    # Deliveries

    def _deliver_taken(self, partition: Partition, box: Box, taken: list[Any]) -> None:
        for number, row, counts in taken:
            entry = self._entry(partition, box, number, row, counts)
            if entry is not None:
                slot = entry.slot
                assert isinstance(slot, Slot)
                self._hand(partition, box, entry, slot)

    def _hand(self, partition: Partition, box: Box, entry: Entry, slot: Slot) -> None:
        """To the subscription whose turn it is; back, as if it had never come, if nobody has room any more."""
        subscription = box.next_reader()
        partition.held += 1
        slot.state = HELD
        if subscription is None:
            redelivered = entry.redelivered
            partition.release([entry], 0.0)
            entry.redelivered = redelivered
            return
        subscription.credit -= 1
        slot.subscription = subscription
        subscription.held[slot.number] = entry
        try:
            subscription.consumer.deliver(entry)
        except Exception as error:  # noqa: BLE001 (its fault must not cost the rest of the answer)
            self.on_error(error)

    def _entry(self, partition: Partition, box: Box, number: int, row: bytes, counts: bytes) -> Entry | None:
        try:
            message = decode_row(row)
        except ForeignRow:
            self._foreign(partition, box, number, row)
            return None
        entry = Entry(message, box.address, box.policy or _UNKNOWN)
        if counts:
            attempts, deliveries, redelivered = counts.split()[:3]
            entry.attempts, entry.deliveries = int(attempts), int(deliveries)
            entry.redelivered = redelivered == b"1"
        entry.slot = Slot(box, partition.life, number, PUT)
        return entry

    # Ends

    def _ends(self, partition: Partition, box: Box, section: Section, ended: list[Any]) -> None:
        picked: list[Entry] = []
        count = 0
        for number, code, row, counts in ended:
            if code == b"F":
                self._foreign(partition, box, number, row)
                continue
            entry = self._entry(partition, box, number, row, counts)
            if entry is None:
                continue
            slot = entry.slot
            assert isinstance(slot, Slot)
            partition.held += 1
            slot.state = ENDED
            if code == _PICKED:
                slot.state = HELD
                picked.append(entry)
                continue
            count += 1
            self.ended += 1
            picked.append(entry)
            self._end(entry, code)
        if section.answer is not None and not section.answer.done():
            section.answer.set_result(picked)

    def _foreign(self, partition: Partition, box: Box, number: int, row: bytes) -> None:
        """Written by somebody else: a dead letter with its bytes, and out of the way."""
        self.foreign += 1
        self.ended += 1
        message = Message(f"foreign-{self.foreign}", "foreign", 0, "foreign", row)
        entry = Entry(message, box.address, box.policy or _UNKNOWN)
        if number:
            entry.slot = Slot(box, partition.life, number, ENDED)
            partition.held += 1
        self._end(entry, b"F")

    def _end(self, entry: Entry, code: bytes) -> None:
        try:
            self.on_end(entry, *_ENDS[code])
        except Exception as error:  # noqa: BLE001 (as above)
            self.on_error(error)


_EMPTY: Final = Section()
