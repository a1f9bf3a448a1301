"""Presence on several nodes against a model: after two lease times of quiet it is the truth, on every node, and what
the watcher was told last.

Sessions come, go, change and expire; nodes crash, and are cut off from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from smart_router.core.registration import STATUSES
from smart_router.directory.bus import LEASE
from tests.core.test_presence import Town, watch
from tests.fakes.bench import Bench, talking
from tests.fakes.client import Client
from tests.fakes.clock import until
from tests.fakes.exchange import FaultyExchange

T = TypeVar("T")
ACTORS = ("ui/456/alice", "ui/456/bob", "ui/456/carol")
WORDS = {"active": "online", "idle": "idle", "away": "away"}
GRACE = 2.0
WHICH = st.integers(0, 20)


class Somebody:
    """A client's session, as it should be seen."""

    def __init__(self, bench: Bench, client: Client, actor: str, status: str, lease: float) -> None:
        self.bench = bench
        self.client = client
        self.actor = actor
        self.status = status
        self.lease = lease
        self.heard_at = bench.clock.now

    @property
    def lives(self) -> bool:
        return self.bench.clock.now < self.heard_at + self.lease

    def say(self, type_: str, argument: dict[str, str]) -> None:
        self.client.tell(type_, argument)
        self.heard_at = self.bench.clock.now


class PresenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        self.exchange = FaultyExchange()
        first = Bench(self._app(), alone=False)
        first.exchange = self.exchange
        await first.open()
        benches = [first, await Bench(self._app(), among=first).open(), await Bench(self._app(), among=first).open()]
        await until(lambda: all(bench.installation.moving.nodes == 2 for bench in benches))
        self.town = Town(benches)
        self.watcher = await watch(first, "daemon/w", *ACTORS)
        self.told = dict.fromkeys(ACTORS, "offline")
        self.people: list[Somebody] = []

    @staticmethod
    def _app() -> Any:
        return talking(heartbeat_interval=0, presence_grace=GRACE)

    @property
    def living(self) -> list[Bench]:
        return [bench for bench in self.town.all if bench not in self.town.gone]

    def pick(self, number: int) -> Somebody:
        return self.people[number % len(self.people)]

    async def _settle(self) -> None:
        await self.town.settle()
        self.watcher.pong()
        for one in self.watcher.deliveries:
            if one.type == "presence":
                self.told[one.n["actor"]] = one.n["presence"]

    async def _heal(self, bus: Any) -> None:
        if bus.node in self.exchange.parted:
            self.exchange.heal(bus)

    # what happens

    @precondition(lambda self: len(self.people) < 8)
    @rule(node=WHICH, actor=st.sampled_from(ACTORS), status=st.sampled_from(STATUSES), short=st.booleans())
    def come(self, node: int, actor: str, status: str, *, short: bool) -> None:
        bench = self.living[node % len(self.living)]
        lease = 5.0 if short else 3600.0
        self.town.a.clock.advance(0.001)
        client = self.run(bench.join(actor, status=status, lease=lease))
        self.people.append(Somebody(bench, client, actor, status, lease))
        self.run(self._settle())

    @precondition(lambda self: self.people)
    @rule(which=WHICH, turn=st.booleans())
    def go(self, which: int, *, turn: bool) -> None:
        somebody = self.people.pop(which % len(self.people))
        self.run(self._go(somebody, turn=turn))

    async def _go(self, somebody: Somebody, *, turn: bool) -> None:
        somebody.client.cut()
        if turn:
            await self._settle()

    @precondition(lambda self: self.people)
    @rule(which=WHICH, status=st.sampled_from(STATUSES))
    def change(self, which: int, status: str) -> None:
        somebody = self.pick(which)
        somebody.status = status
        self.run(self._say(somebody, "status", {"status": status}))

    @precondition(lambda self: self.people)
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        self.run(self._say(self.pick(which), "heartbeat", {}))

    async def _say(self, somebody: Somebody, type_: str, argument: dict[str, str]) -> None:
        somebody.say(type_, argument)
        await self._settle()

    @rule(which=st.integers(1, 2), cut=st.booleans())
    def cut_off_or_heal(self, which: int, *, cut: bool) -> None:
        bus: Any = self.town.all[which].installation.bus
        if cut:
            self.exchange.part(bus)
        else:
            self.run(self._heal(bus))
        self.run(self._settle())

    @precondition(lambda self: len(self.living) > 2)
    @rule(which=st.integers(1, 2))
    def crash(self, which: int) -> None:
        bench = self.town.all[which]
        self.town.gone.append(bench)
        self.run(bench.installation.bus.close())
        self.people = [one for one in self.people if one.bench is not bench]

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.5, 4.0, 9.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.run(self.town.pass_time(seconds))
        self.run(self._settle())

    @rule()
    def quiet(self) -> None:
        """Nothing fails for two lease times, and a time of grace."""
        for bench in self.living:
            self.run(self._heal(bench.installation.bus))
        self.run(self.town.pass_time(2 * LEASE + GRACE))
        self.run(self._settle())
        for actor in ACTORS:
            wanted = self._truth(actor)
            assert self.run(self.town.presence(actor)) == [wanted] * len(self.living)
            assert self.told[actor] == wanted

    def _truth(self, actor: str) -> str:
        here = [one.status for one in self.people if one.actor == actor and one.lives]
        return next((WORDS[status] for status in STATUSES if status in here), "offline")

    def teardown(self) -> None:
        self.quiet()
        for bench in reversed(self.town.all):
            self.run(bench.close())
        self.loop.close()


TestPresenceMachine = PresenceMachine.TestCase
TestPresenceMachine.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
