"""The directory over the bus: the contract of all directories, and what only announcements can suffer."""

import tracemalloc
from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs

from smart_router.bus.local import LocalBus
from smart_router.directory.announcer import TOPIC
from smart_router.directory.base import NodeRecord, SessionRecord
from tests.contracts.directory import Bench, DirectoryContract, Node, Place, in_order
from tests.directory.places import BusPlace


class TestBusDirectory(DirectoryContract):
    @pytest.fixture
    def place(self) -> Place:
        return BusPlace()


@pytest.fixture
def place() -> BusPlace:
    return BusPlace()


@pytest.fixture
async def bench(place: BusPlace) -> AsyncIterator[Bench]:
    bench = Bench(place)
    yield bench
    await bench.close()


def published(place: BusPlace, node: Node) -> int:
    return place.buses[node.directory][0].statistics().published


async def add_many(node: Node, count: int) -> list[SessionRecord]:
    sessions = [node.session(f"s{number}", f"ui/456/{number:05}", number) for number in range(count)]
    for session in sessions:
        await node.directory.add(session)
    return in_order(sessions)


class Listening(LocalBus):
    """Remembers the sizes of what comes."""

    def __init__(self, place: BusPlace) -> None:
        super().__init__("listener", place.exchanges[""])
        self.sizes: list[int] = []
        self.listen(TOPIC, lambda node, data: self.sizes.append(len(data)))


async def test_many_sessions_in_one_turn_are_few_publications(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    listening = Listening(place)
    await listening.open()
    sessions = await add_many(one, 5_000)
    await place.advance(0.0)
    assert len(listening.sizes) < 5
    assert max(listening.sizes) < 250_000
    assert await two.everything() == sessions


async def test_a_newcomer_gets_a_large_table_in_parts_and_does_not_wait(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    sessions = await add_many(one, 20_000)
    await place.advance(0.0)
    before, sent = place.now(), published(place, one)
    late = await bench.node()
    assert await late.everything() == sessions
    assert 5 < published(place, one) - sent < 30
    assert place.now() - before <= 0.2
    assert await two.everything() == sessions


async def test_of_a_table_whose_part_was_lost_nothing_is_believed(bench: Bench, place: BusPlace) -> None:
    one, _ = await bench.nodes(2)
    sessions = await add_many(one, 10_000)
    await place.advance(0.0)
    late = bench.made()
    arrived = 0

    def lose_the_second_part(node: str, other: str) -> bool:
        nonlocal arrived
        if (node, other) != (one.id, late.id):
            return False
        arrived += 1
        return arrived == 3  # its report is the first

    place.exchanges[""].lose = lose_the_second_part
    await bench.open(late)
    assert await late.ids() == []
    await bench.pass_leases(0.7)
    assert await late.everything() == sessions


async def test_a_lost_change_is_found_by_the_next_report(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    await one.add("known")
    await place.advance(0.0)
    place.exchanges[""].lose = lambda node, other: True
    await one.add("lost")
    one.directory.remove(one.session("known"))
    await place.advance(0.0)
    assert await two.ids() == ["known"]
    place.exchanges[""].lose = lambda node, other: False
    asked = published(place, two)
    one.directory.report(one.record)
    await place.advance(0.0)
    assert await two.ids() == ["lost"]
    assert two.sessions_told == [("known", False), ("known", True), ("lost", False)]
    assert published(place, two) == asked + 1


async def test_changes_behind_a_gap_wait_for_the_table(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    lost, asked = iter([True]), published(place, two)
    place.exchanges[""].lose = lambda node, other: node == one.id and next(lost, False)
    for number in range(5):
        await one.add(f"s{number}")
        await place.advance(0.0)
    assert await two.ids() == ["s0", "s1", "s2", "s3", "s4"]
    assert published(place, two) == asked + 1


async def test_who_hears_nobody_because_its_own_bus_is_away_takes_nobody_for_dead(
    bench: Bench, place: BusPlace
) -> None:
    one, two = await bench.nodes(2)
    await two.add("s2")
    await place.advance(0.0)
    await place.cut(one.directory)
    await bench.pass_leases(5)
    assert await one.ids() == ["s2"]
    assert await one.node_ids() == [one.id, two.id]
    await place.heal(one.directory)
    await bench.pass_leases(2)
    assert one.nodes_told == [(two.id, False)]
    assert one.sessions_told == [("s2", False)]


async def test_who_was_late_itself_takes_nobody_for_dead(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    await two.add("s2")
    await place.advance(0.0)
    await place.advance(10 * place.lease)
    assert await one.node_ids() == [one.id, two.id]
    await bench.pass_leases(2)
    assert one.nodes_told == [(two.id, False)]
    await bench.crash(two)
    await bench.pass_leases(1.5)
    assert await one.node_ids() == [one.id]


async def test_who_was_taken_for_dead_comes_back_with_its_next_report(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    await two.add("s2")
    await place.advance(0.0)
    two.lives = False
    await bench.pass_leases(2)
    assert await one.ids() == []
    await two.add("s3")
    two.directory.report(two.record)
    await place.advance(0.0)
    assert await one.ids() == ["s2", "s3"]
    assert one.nodes_told == [(two.id, False), (two.id, True), (two.id, False)]


async def test_what_is_not_ours_is_ignored(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)
    await two.add("s2")
    await place.advance(0.0)
    stranger = LocalBus("stranger", place.exchanges[""])
    await stranger.open()
    pack = msgspec.msgpack.encode
    row = ["id", "actor", "endpoint", "subject", 1]
    record = NodeRecord(two.id, (), "1", 1)
    strange = [
        b"",
        b"\xc1",
        b"\xff" * 1_000,
        b"\x91" * 100_000,
        pack({}),
        pack(["ask", 1, 2]),
        pack(["unheard", 1]),
        pack(["changes", 1, [row], []]),
        pack(["changes", "1", [row], []]),
        pack(["part", 1, 0, True, [row]]),
        pack(["part", -1, -1, True, [row[:2]]]),
        pack(["leave"]),
        pack(["report", record, 1, True, []]),
        pack(["report", {"id": "stranger"}, 1]),
    ]
    for data in strange:
        stranger.publish(TOPIC, data)
        await place.advance(0.0)
    assert await one.ids() == ["s2"]
    assert await one.node_ids() == [one.id, two.id]
    assert one.directory.trouble() == ""


async def test_what_a_listener_raises_is_logged_and_ends_nothing(bench: Bench, place: BusPlace) -> None:
    one, two = await bench.nodes(2)

    def fail(record: object, gone: bool) -> None:
        raise ZeroDivisionError

    one.directory.on_node = one.directory.on_session = fail
    with capture_logs() as logs:
        for id_ in ("a", "b"):
            await two.add(id_)
        await place.advance(0.0)
        late = await bench.node()
    assert [line["event"] for line in logs] == ["directory_listener_failed"] * 3
    assert await one.ids() == ["a", "b"]
    assert await one.node_ids() == [one.id, two.id, late.id]


async def test_whoever_else_wants_to_know_of_the_bus_still_does(bench: Bench, place: BusPlace) -> None:
    node = bench.made()
    bus, exchange = place.buses[node.directory]
    told: list[str] = []
    bus.on_up = lambda: told.append("up")
    mine = bus.on_up
    await bench.open(node)
    exchange.part(bus)
    exchange.heal(bus)
    assert told == ["up"]
    await node.directory.close()
    assert bus.on_up is mine


async def test_what_a_session_of_another_node_costs_in_memory(bench: Bench, place: BusPlace) -> None:
    [one] = await bench.nodes(1)
    count = 20_000
    await add_many(one, count)
    await place.advance(0.0)
    late = bench.made()
    late.directory.on_session = lambda session, gone: None
    tracemalloc.start()
    try:
        await bench.open(late)
        await place.advance(0.1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert late.directory.statistics().sessions == count
    assert held / count < 330
