"""Whatever connects, drops, confirms, refuses and waits: no message is lost, none counts twice, and order holds.

The machine drives one actor's mailbox through real parts; only the sockets and the clock are the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.bench import Bench, message, talking
from tests.fakes.client import Client

T = TypeVar("T")

ALICE = "ui/456/alice"
LIMIT = settings(max_examples=80, stateful_step_count=40, deadline=None)


class Mailbox(RuleBasedStateMachine):
    """`received`, with recovery."""

    policies: ClassVar[dict[str, Any]] = {"window": 3, "recovery": True, "recovery_window": 4}

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = Bench(talking(**self.policies))
        self.run(self.bench.open())
        self.sender = self.run(self.bench.join("daemon/s"))
        self.live: list[Client] = []
        self.gone: list[Client] = []
        self.published = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def one(self, clients: list[Client], index: int) -> Client:
        return clients[index % len(clients)]

    @property
    def written(self) -> list[dict[str, Any]]:
        """What came from the sender, in the order it was written."""
        return [each for each in self.bench.written if each["from"] != "router"]

    async def settle(self) -> None:
        """What has ended is in the store, and forgotten."""
        ended = sum(self.bench.ends.statistics().counts.values())
        if ended:
            await self.bench.dead_letters(ended)
        for _ in range(3):
            await asyncio.sleep(0)

    # what may happen

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        async def publish() -> None:
            for _ in range(count):
                self.published += 1
                self.sender.tell("talk", message(self.published, to=ALICE))

        self.run(publish())

    @precondition(lambda self: len(self.live) < 3)
    @rule()
    def connect(self) -> None:
        self.live.append(self.run(self.bench.join(ALICE)))

    @precondition(lambda self: self.live)
    @rule(index=st.integers(0, 2), by_client=st.booleans())
    def cut(self, index: int, by_client: bool) -> None:
        async def cut() -> None:
            client = self.one(self.live, index)
            self.live.remove(client)
            client.cut(by_client=by_client)
            self.gone.append(client)

        self.run(cut())

    @precondition(lambda self: self.gone or self.live)
    @rule(index=st.integers(0, 5), seen=st.integers(0, 20))
    def resume(self, index: int, seen: int) -> None:
        """A client that was cut, or does not know yet that it is; it has seen some of what was written to it."""
        old = self.one(self.gone + self.live, index)
        offsets = [got.offset for got in old.deliveries[:seen]]
        new = self.run(self.bench.join(ALICE, old.pid, offsets[-1] if offsets else None))
        if new.hellos[0][1]:
            unseen = [got.n for got in old.deliveries[len(offsets) :]]
            assert set(new.numbers[: len(unseen)]) <= set(unseen) | set(range(self.published + 1))
        if old in self.live and old.close_reason is not None:
            self.live.remove(old)
        if old in self.gone:
            self.gone.remove(old)
        self.live.append(new)

    @precondition(lambda self: self.live)
    @rule(index=st.integers(0, 2))
    def ping(self, index: int) -> None:
        self.one(self.live, index).ping()

    @precondition(lambda self: self.live)
    @rule(index=st.integers(0, 2))
    def pong(self, index: int) -> None:
        async def pong() -> None:
            self.one(self.live, index).pong()

        self.run(pong())

    @precondition(lambda self: self.live)
    @rule(index=st.integers(0, 2), ok=st.booleans())
    def writable(self, index: int, ok: bool) -> None:
        async def writable() -> None:
            self.one(self.live, index).handler.writable(ok)

        self.run(writable())

    @rule(seconds=st.sampled_from([0.5, 1.25, 5.5, 11.0]))
    def time_passes(self, seconds: float) -> None:
        async def pass_time() -> None:
            self.bench.pass_time(seconds)

        self.run(pass_time())

    # what holds

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        self.run(self.settle())
        box = self.bench.broker.statistics_of(ALICE)
        waiting, in_flight = (box.waiting, box.in_flight) if box is not None else (0, 0)
        statistics = self.bench.delivery.statistics()
        confirmed = statistics.confirmed
        ended = sum(self.bench.ends.statistics().counts.values())
        assert confirmed + waiting + in_flight + ended == self.published
        sessions = self.bench.sessions.of_actor(ALICE)
        held = {each for session in sessions for each in session.held}
        kept = sum(session.in_flight for session in sessions) + sum(len(each.ready) for each in held)
        assert kept == in_flight

    @invariant()
    def first_deliveries_are_in_order_and_repeats_say_so(self) -> None:
        seen: list[int] = []
        for written in self.written:
            number, repeat = written["payload"], written.get("redelivered", False)
            assert repeat == (number in seen)
            if not repeat:
                seen.append(number)
        assert seen == sorted(seen)

    @invariant()
    def windows_hold(self) -> None:
        for session in self.bench.sessions.of_actor(ALICE):
            assert session.in_flight <= session.window + len(session.parked)
            assert session.bytes >= 0
            assert session.bytes > 0 or not (session.inflight or session.pending)

    def confirm_all(self, client: Client) -> None:
        client.pong()

    def teardown(self) -> None:
        async def finish() -> None:
            for client in self.live:
                client.cut(by_client=True)
            last = await self.bench.join(ALICE)
            for _ in range(self.published + 30):
                self.bench.pass_time(1, step=1)
                self.confirm_all(last)
            await self.settle()
            box = self.bench.broker.statistics_of(ALICE)
            assert box is not None
            assert (box.waiting, box.in_flight) == (0, 0)
            letters = {letter.body for letter in await self.bench.dead_letters()}
            numbers = {written["payload"] for written in self.written}
            assert len(numbers) + len(letters) >= self.published
            await self.bench.close()

        try:
            self.run(finish())
        finally:
            self.runner.close()


class ClientMode(Mailbox):
    """`client`: answers, refusals, attempts, dead letters."""

    policies: ClassVar[dict[str, Any]] = {"ack": "client", "window": 3, "recovery": True, "recovery_window": 4}

    @precondition(lambda self: any(client.deliveries for client in self.live + self.gone))
    @rule(index=st.integers(0, 5), which=st.integers(0, 10), confirm=st.booleans())
    def answer(self, index: int, which: int, confirm: bool) -> None:
        async def answer() -> None:
            clients = [client for client in self.live if client.deliveries]
            if not clients:
                return
            client = self.one(clients, index)
            ack_id = client.deliveries[-1 - which % len(client.deliveries)].ack_id
            assert ack_id is not None
            client.answer(ack_id, *(() if confirm else ({"nack": "no"},)))

        self.run(answer())

    def confirm_all(self, client: Client) -> None:
        client.pong()
        for got in client.deliveries[-3:]:
            assert got.ack_id is not None
            client.answer(got.ack_id)


class OneByOne(ClientMode):
    """`window = 1`: nothing later is written before the earlier is confirmed or has ended."""

    policies: ClassVar[dict[str, Any]] = {"ack": "client", "window": 1}

    @invariant()
    def one_at_a_time(self) -> None:
        numbers = [written["payload"] for written in self.written]
        assert numbers == sorted(numbers)


TestMailbox = Mailbox.TestCase
TestMailbox.settings = LIMIT
TestClientMode = ClientMode.TestCase
TestClientMode.settings = LIMIT
TestOneByOne = OneByOne.TestCase
TestOneByOne.settings = LIMIT

__all__ = ["TestClientMode", "TestMailbox", "TestOneByOne"]
