"""The directory over the bus against a model: after two lease times of quiet every node's table is the truth.

Nodes come, leave, crash and fall silent; they are cut off, or hear in one direction only; publications get lost.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smart_router.directory.base import NodeRecord, SessionRecord
from smart_router.directory.bus import BusDirectory
from tests.directory.places import BusPlace

T = TypeVar("T")
IDS = st.lists(st.integers(0, 7), min_size=1, max_size=4)
LOSSES = st.lists(st.booleans(), max_size=6)
"""Of the next publications on their way to each node, which get lost."""
MAX_NODES = 5
STEP = 0.5
REPORT_EVERY = 4
"""Steps: two seconds."""


class Follower:
    """A node, its own sessions as it should know them, and the table that follows from what it was told."""

    def __init__(self, directory: BusDirectory, record: NodeRecord) -> None:
        self.directory = directory
        self.record = record
        self.own: dict[str, SessionRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.sessions: dict[tuple[str, str], SessionRecord] = {}
        self.problems: list[str] = []
        self.silent = False
        directory.on_node = self._on_node
        directory.on_session = self._on_session

    def _on_node(self, record: NodeRecord, gone: bool) -> None:
        if gone == (record.id not in self.nodes):
            self.problems.append(f"{record.id} gone: {gone}")
        if gone and any(node == record.id for node, _ in self.sessions):
            self.problems.append(f"{record.id} is gone before its sessions")
        if gone:
            self.nodes.pop(record.id, None)
        else:
            self.nodes[record.id] = record

    def _on_session(self, session: SessionRecord, gone: bool) -> None:
        key = session.node, session.id
        if gone and self.sessions.pop(key, None) != session:
            self.problems.append(f"{session} is gone, and never came")
        if not gone and (key in self.sessions or session.node not in self.nodes):
            self.problems.append(f"{session} has come twice, or from nobody")
        if not gone:
            self.sessions[key] = session


class DirectoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.place = BusPlace()
        self.steps = 0
        self.numbers = itertools.count(1)
        self.losses: deque[bool] = deque()
        self.mute: set[tuple[str, str]] = set()
        self.living: list[Follower] = []
        self.since = itertools.count(1)
        for _ in range(3):
            self.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @property
    def exchange(self) -> Any:
        return self.place.exchanges[""]

    def lose(self, node: str, other: str) -> bool:
        return (node, other) in self.mute or (bool(self.losses) and self.losses.popleft())

    async def _pass(self, steps: int) -> None:
        for _ in range(steps):
            self.steps += 1
            if self.steps % REPORT_EVERY == 0:
                for node in self.living:
                    if not node.silent:
                        node.directory.report(node.record)
            await self.place.advance(STEP)

    def pick(self, number: int) -> Follower:
        return self.living[number % len(self.living)]

    @precondition(lambda self: len(self.living) < MAX_NODES)
    @rule()
    def join(self) -> None:
        number = next(self.numbers)
        record = NodeRecord(f"node-{number}", ("gateway",), "1", number)
        node = Follower(self.place.make(record.id), record)
        self.exchange.lose = self.lose
        self.run(self.place.open(node.directory, record))
        self.living.append(node)

    @precondition(lambda self: len(self.living) > 1)
    @rule(number=st.integers(0, 4), politely=st.booleans())
    def end(self, number: int, *, politely: bool) -> None:
        node = self.living.pop(number % len(self.living))
        self.run(node.directory.close() if politely else self.place.crash(node.directory))

    @rule(number=st.integers(0, 4), ids=IDS, losses=LOSSES, turn=st.booleans())
    def add(self, number: int, ids: list[int], losses: list[bool], *, turn: bool) -> None:
        node = self.pick(number)
        self.losses.extend(losses)
        for id_ in ids:
            actor = f"ui/{id_ % 3}"
            session = SessionRecord(f"s{id_}", actor, "ui", node.record.id, "x", next(self.since))
            self.run(node.directory.add(session))
            node.own[session.id] = session
        self.run(self._pass(int(turn)))

    @rule(number=st.integers(0, 4), ids=IDS, losses=LOSSES, turn=st.booleans())
    def remove(self, number: int, ids: list[int], losses: list[bool], *, turn: bool) -> None:
        node = self.pick(number)
        self.losses.extend(losses)
        self.run(self._remove(node, [f"s{id_}" for id_ in ids]))
        self.run(self._pass(int(turn)))

    async def _remove(self, node: Follower, ids: list[str]) -> None:
        for id_ in ids:
            session = node.own.pop(id_, None)
            if session is not None:
                node.directory.remove(session)

    @rule(number=st.integers(0, 4))
    def change_record(self, number: int) -> None:
        node = self.pick(number)
        node.record = NodeRecord(node.record.id, ("gateway",), "1", node.record.started_at, sessions=len(node.own))

    @rule(number=st.integers(0, 4), silent=st.booleans())
    def be_silent(self, number: int, *, silent: bool) -> None:
        """Its core hangs: it reports nothing."""
        self.pick(number).silent = silent

    @rule(number=st.integers(0, 4), cut=st.booleans())
    def cut_or_heal(self, number: int, *, cut: bool) -> None:
        bus, exchange = self.place.buses[self.pick(number).directory]
        if cut:
            exchange.part(bus)
        elif bus.node in exchange.parted:
            exchange.heal(bus)
            self.run(self._pass(1))

    @rule(one=st.integers(0, 4), other=st.integers(0, 4))
    def hear_in_one_direction(self, one: int, other: int) -> None:
        self.mute.add((self.pick(one).record.id, self.pick(other).record.id))

    @rule(steps=st.integers(1, 40), losses=LOSSES)
    def let_time_pass(self, steps: int, losses: list[bool]) -> None:
        self.losses.extend(losses)
        self.run(self._pass(steps))

    @rule()
    def quiet(self) -> None:
        """Nothing fails for two lease times."""
        self.losses.clear()
        self.mute.clear()
        for node in self.living:
            node.silent = False
            bus, exchange = self.place.buses[node.directory]
            if bus.node in exchange.parted:
                exchange.heal(bus)
        self.run(self._pass(round(2 * self.place.lease / STEP)))
        truth = {(session.node, id_): session for node in self.living for id_, session in node.own.items()}
        records = sorted((node.record for node in self.living), key=lambda record: record.started_at)
        for node in self.living:
            self.run(self._knows(node, truth, records))
        self._nobody_asks_any_more()

    async def _knows(
        self, node: Follower, truth: dict[tuple[str, str], SessionRecord], records: list[NodeRecord]
    ) -> None:
        in_order = sorted(truth.values(), key=lambda one: (one.actor, one.id))
        found = await node.directory.sessions(limit=1_000)
        assert sorted(found, key=lambda one: (one.actor, one.id, one.node)) == sorted(
            in_order, key=lambda one: (one.actor, one.id, one.node)
        )
        for actor in ("ui/0", "ui/1", "ui/2"):
            of_actor = sorted((one for one in in_order if one.actor == actor), key=lambda one: one.since)
            assert await node.directory.of_actor(actor) == of_actor
        assert await node.directory.nodes() == records
        assert node.sessions == {key: one for key, one in truth.items() if key[0] != node.record.id}
        assert node.nodes.keys() == {record.id for record in records} - {node.record.id}

    def _nobody_asks_any_more(self) -> None:
        """In a lease of quiet a node publishes its reports, and nothing else."""
        before = [self._published(node) for node in self.living]
        self.run(self._pass(3 * REPORT_EVERY))
        assert [self._published(node) for node in self.living] == [count + 3 for count in before]

    def _published(self, node: Follower) -> int:
        return self.place.buses[node.directory][0].statistics().published

    @invariant()
    def what_is_told_fits_together(self) -> None:
        for node in self.living:
            assert node.problems == []
            own = [one for one in self.run(node.directory.sessions(limit=1_000)) if one.node == node.record.id]
            assert {one.id: one for one in own} == node.own

    def teardown(self) -> None:
        self.quiet()
        for directory in self.place.directories:
            self.run(directory.close())
        self.run(asyncio.sleep(0))
        self.loop.close()


TestDirectoryMachine = DirectoryMachine.TestCase
TestDirectoryMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
