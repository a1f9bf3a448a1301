"""The mailbox against a model: an ordered list. Nothing acknowledged is lost, out of order or twice unsaid.

Every message whose put was answered without refusal is, at each step, somewhere: confirmed, waiting, held, or ended
with a reason.
"""

import asyncio
import resource
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smart_router.brokers.base import End, Entry, MailboxPolicy, PutResult, Subscription
from smart_router.message import Message
from tests.brokers.places import FilePlace
from tests.contracts.broker import Place, until

BOX = "ui/1/a"
POLICY = MailboxPolicy(max_messages=12)
T = TypeVar("T")


class MailboxMachine(RuleBasedStateMachine):
    """Rules: publish, read, deliver, confirm, give back, leave, expire, crash and reopen, disk full and room again."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.place = self.make_place()
        self.number = 0
        self.full = False
        self.accepted: set[int] = set()
        self.pending: set[int] = set()
        self.confirmed: set[int] = set()
        self.ended: dict[int, tuple[End, str]] = {}
        self.before_crash: set[int] = set()
        self.newest = 0
        self.problems: list[str] = []
        self.held: list[Entry] = []
        self.seen: set[int] = set()
        self.subscription: Subscription | None = None
        self.run(self._open())

    def make_place(self) -> Place:
        place = FilePlace(self.folder)
        place.path.parent.mkdir()
        return place

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _open(self) -> None:
        self.broker = await self.place.open()
        self.broker.on_end = self._on_end

    def _on_end(self, entry: Entry, end: End, reason: str) -> None:
        number = int(entry.message.id)
        if end is not End.REFUSED:
            self.ended[number] = (end, reason)
        self.broker.ack([entry])

    def deliver(self, entry: Entry) -> None:
        number = int(entry.message.id)
        first = not entry.redelivered
        self.check(number not in self.confirmed - self.before_crash, f"{number} was confirmed and came again")
        self.check(number not in [int(held.message.id) for held in self.held], f"{number} is held twice")
        self.check(not first or number not in self.seen, f"{number} came again without saying so")
        self.check(not first or number > self.newest, f"{number} came after {self.newest}")
        if first:
            self.newest = number
        self.seen.add(number)
        self.held.append(entry)

    def check(self, holds: bool, problem: str) -> None:
        """An error here would only reach the event loop: the invariant raises it."""
        if not holds:
            self.problems.append(problem)

    async def _settle(self) -> None:
        """All puts that can be answered have been."""
        await until(lambda: not self.pending)

    @rule(count=st.integers(1, 6), ttl=st.sampled_from([0, 0, 5_000]), away=st.booleans())
    def publish(self, count: int, ttl: int, *, away: bool) -> None:
        async def work() -> None:
            for _ in range(count):
                self.number += 1
                number, wall = self.number, self.place.clock.wall
                expires = wall + ttl if ttl else 0
                body = str(number).encode()
                message = Message(str(number), "ui/2/b", wall, "t", body, expires_at=expires)
                entries = [Entry(message, BOX, POLICY)]
                self.pending.add(number)

                def done(result: PutResult, number: int = number) -> None:
                    self.pending.discard(number)
                    if not result.refused:
                        self.accepted.add(number)

                self.broker.put(entries, done)
            if away:
                await self._settle()

        self.run(work())

    @precondition(lambda self: self.subscription is None)
    @rule(credit=st.integers(0, 20))
    def read(self, credit: int) -> None:
        async def work() -> None:
            self.subscription = await self.broker.subscribe(BOX, POLICY, self)
            self.subscription.grant(credit)

        self.run(work())

    @precondition(lambda self: self.subscription is not None)
    @rule(credit=st.integers(1, 20))
    def deliver_more(self, credit: int) -> None:
        async def work() -> None:
            assert self.subscription is not None
            self.subscription.grant(credit)
            await asyncio.sleep(0)

        self.run(work())

    def choose(self, every: int) -> list[Entry]:
        """What is held depends on the writer's timing: so not the entries are drawn, but how to pick them."""
        return self.held[::every]

    @rule(every=st.integers(1, 4))
    def confirm(self, every: int) -> None:
        chosen = self.choose(every)

        async def work() -> None:
            self.held = [entry for entry in self.held if entry not in chosen]
            self.confirmed.update(int(entry.message.id) for entry in chosen)
            self.broker.ack(chosen)

        self.run(work())

    @rule(every=st.integers(-3, -1), delay=st.sampled_from([0.0, 0.0, 3.0]))
    def give_back(self, every: int, delay: float) -> None:
        chosen = self.choose(every)

        async def work() -> None:
            self.held = [entry for entry in self.held if entry not in chosen]
            self.broker.release(chosen, delay=delay)

        self.run(work())

    @precondition(lambda self: self.subscription is not None)
    @rule()
    def leave(self) -> None:
        async def work() -> None:
            assert self.subscription is not None
            self.held = []
            self.subscription.close()
            self.subscription = None

        self.run(work())

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        async def work() -> None:
            self.place.clock.now += seconds
            self.place.clock.wall += int(seconds * 1000)
            self.place.advance(self.broker, seconds)
            await asyncio.sleep(0)

        self.run(work())

    @rule()
    def crash(self) -> None:
        async def work() -> None:
            self.make_room()
            self.held, self.subscription = [], None
            known = set(self.accepted), dict(self.ended), set(self.confirmed)
            await self.place.crash(self.broker)
            self.accepted, self.ended, self.before_crash = known
            self.pending = set()
            await self._open()

        self.run(work())

    @precondition(lambda self: not self.full)
    @rule()
    def disk_full(self) -> None:
        async def work() -> None:
            await self._settle()
            await self.place.take_storage_away(self.broker)
            self.full = True

        self.run(work())

    @precondition(lambda self: self.full)
    @rule()
    def room_again(self) -> None:
        async def work() -> None:
            self.make_room()
            await until(lambda: self.broker.statistics().healthy)

        self.run(work())

    def make_room(self) -> None:
        self.place.give_storage_back(self.broker)
        self.full = False

    @invariant()
    def nothing_is_lost(self) -> None:
        self.run(self._check())

    async def _check(self) -> None:
        assert self.problems == []
        lost = self.accepted
        async with asyncio.timeout(10):
            while lost:  # what ends out of turn is read from the disk first
                await asyncio.sleep(0)
                waiting = [int(entry.message.id) for entry in await self.broker.peek(BOX, limit=1000)]
                assert len(waiting) == len(set(waiting)), "twice in the mailbox"
                held = {int(entry.message.id) for entry in self.held}
                lost = self.accepted - set(waiting) - held - self.confirmed - set(self.ended)
            while len(self.held) != await self._in_flight():  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not {int(entry.message.id) for entry in self.held} & (self.confirmed - self.before_crash)

    async def _in_flight(self) -> int:
        box = await self.broker.mailbox(BOX)
        return box.in_flight if box is not None else 0

    def teardown(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.run(self.broker.close())
        self.loop.close()
        shutil.rmtree(self.folder)


TestMailboxMachine = MailboxMachine.TestCase
TestMailboxMachine.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
