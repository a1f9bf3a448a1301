"""Several nodes on one broker and one bus: hand-over of mailboxes, resume elsewhere, what all nodes must know."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from smart_router.stores.base import SubEndpoint
from tests.fakes.bench import Bench, message, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE, BOB = "ui/456/alice", "ui/456/bob"


class Nodes:
    """Three nodes, and a sender at the first."""

    def __init__(self, benches: list[Bench], sender: Client) -> None:
        self.a, self.b, self.c = self.all = benches
        self.sender = sender

    def say(self, *numbers: int, to: str = ALICE) -> None:
        for number in numbers:
            self.sender.tell("talk", message(number, to=to))

    async def join(self, bench: Bench, pid: str | None = None, offset: str | None = None) -> Client:
        """Alice at that node, later than all before."""
        self.a.clock.advance(0.001)
        client = await bench.join(ALICE, pid, offset)
        return client

    async def held_at(self, bench: Bench) -> None:
        """Returns when that node takes from Alice's mailbox."""
        await until(lambda: self.a.broker.holder_of(ALICE) is bench.delivery.holdings.get(ALICE))

    def pass_time(self, seconds: float) -> None:
        """All have one clock; each has its own deadlines."""
        for _ in range(int(seconds / 0.25)):
            self.a.clock.advance(0.25)
            for bench in self.all:
                bench.deadlines.run(self.a.clock.now)
            assert self.a.broker.deadlines is not None
            self.a.broker.deadlines.run(self.a.clock.now)

    async def have(self, client: Client, *numbers: int) -> None:
        await until(lambda: len(client.numbers) >= len(numbers))
        assert client.numbers == list(numbers)


@pytest.fixture
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    policies: dict[str, Any] = getattr(request, "param", {})
    async with AsyncExitStack() as stack:
        first = await Bench(talking(**policies), alone=False).open()
        stack.push_async_callback(first.close)
        benches = [first]
        for _ in range(2):
            bench = await Bench(talking(**policies), among=first).open()
            stack.push_async_callback(bench.close)
            benches.append(bench)
        await until(lambda: all(bench.installation.moving.nodes == 2 for bench in benches))
        yield Nodes(benches, await first.join("daemon/s"))


def policies(**policies: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("nodes", [policies], indirect=True, ids=["+".join(policies)])


recovery = policies(recovery=True, recovery_window=60)


# hand-over


async def test_a_message_enters_at_one_node_and_leaves_at_another(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.b)
    nodes.say(1, 2)
    await nodes.have(alice, 1, 2)


async def test_the_newest_session_gets_all_wherever_it_is(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    nodes.say(1)
    older.pong()
    newer = await nodes.join(nodes.b)
    await nodes.held_at(nodes.b)
    nodes.say(2, 3)
    await nodes.have(newer, 2, 3)
    assert older.numbers == [1]


async def test_what_the_older_does_not_confirm_in_a_second_goes_first(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    nodes.say(1, 2)
    newer = await nodes.join(nodes.b)
    await until(lambda: older.pinged is not None)
    nodes.say(3)
    nodes.pass_time(0.75)
    assert newer.numbers == []
    nodes.pass_time(0.5)
    await nodes.have(newer, 1, 2, 3)
    assert [got.message.get("redelivered") for got in newer.deliveries] == [True, True, None]


async def test_the_older_is_pinged_at_once_and_confirms_in_time(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    nodes.say(1, 2)
    newer = await nodes.join(nodes.b)
    await until(lambda: older.pinged is not None)
    nodes.say(3)
    older.pong()
    await nodes.have(newer, 3)


async def test_when_the_newest_goes_an_older_one_elsewhere_takes_over(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    newer = await nodes.join(nodes.b)
    await nodes.held_at(nodes.b)
    nodes.say(1, 2)
    await nodes.have(newer, 1, 2)
    newer.cut()
    await nodes.have(older, 1, 2)
    nodes.say(3)
    older.pong()
    await nodes.have(older, 1, 2, 3)


@policies(ack="client")
async def test_in_client_mode_one_that_answers_the_ping_keeps_what_it_holds(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    nodes.say(1)
    await nodes.have(older, 1)
    newer = await nodes.join(nodes.b)
    await until(lambda: older.pinged is not None)
    nodes.say(2)
    older.pong()
    await nodes.have(newer, 2)
    nodes.pass_time(2)
    assert newer.numbers == [2]
    for client in (older, newer):
        ack_id = client.deliveries[0].ack_id
        assert ack_id is not None
        client.answer(ack_id)
    assert nodes.a.broker.statistics().in_flight == nodes.a.broker.statistics().waiting == 0


@policies(ack="client", window=1, delivery_timeout=5)
async def test_with_a_window_of_one_nothing_overtakes_on_another_node(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    nodes.say(1, 2)
    await nodes.have(older, 1)
    newer = await nodes.join(nodes.b)
    await until(lambda: older.pinged is not None)
    older.pong()
    nodes.pass_time(2)
    assert newer.numbers == []
    ack_id = older.deliveries[0].ack_id
    assert ack_id is not None
    older.answer(ack_id)
    await nodes.have(newer, 2)


@policies(deliver="any")
async def test_sessions_that_share_are_given_in_turn_on_all_nodes(nodes: Nodes) -> None:
    here, there = await nodes.join(nodes.a), await nodes.join(nodes.b)
    nodes.say(*range(10))
    await until(lambda: len(here.numbers) + len(there.numbers) == 10)
    assert len(here.numbers) == len(there.numbers) == 5


async def test_a_session_that_is_gone_before_its_hello_leaves_the_mailbox_to_the_older(nodes: Nodes) -> None:
    older = await nodes.join(nodes.a)
    client = nodes.b.client("/ui/456")
    client.open({"actor": ALICE})
    client.cut()
    await until(lambda: len(nodes.b.delivery.holdings) == 0)
    nodes.say(1)
    await nodes.have(older, 1)


async def test_an_actor_that_moves_two_hundred_times_keeps_its_order(nodes: Nodes) -> None:
    rng = random.Random(7)
    clients: list[Client] = []
    sent = 0
    for _ in range(200):
        clients.append(await nodes.join(rng.choice(nodes.all)))
        for _ in range(rng.randrange(4)):
            sent += 1
            nodes.say(sent)
        for client in rng.sample(clients, min(3, len(clients))):
            client.pong()
        if len(clients) > 3 and rng.random() < 0.5:
            clients.pop(rng.randrange(len(clients) - 1)).cut()
    last = clients[-1]
    for client in clients[:-1]:
        client.cut()

    def drained() -> bool:
        last.pong()
        statistics = nodes.a.broker.statistics()
        return statistics.waiting == statistics.in_flight == 0

    await until(drained)
    first_times = list(dict.fromkeys(written["payload"] for written in nodes.a.written))
    assert first_times == list(range(1, sent + 1))


# resume


@recovery
async def test_goes_on_at_another_node_after_the_offset(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.a)
    nodes.say(1, 2, 3)
    alice.cut()
    nodes.say(4)
    again = await nodes.join(nodes.b, alice.pid, alice.deliveries[1].offset)
    assert again.hellos == [("received", True)]
    assert (again.id, again.pid) == (alice.id, alice.pid)
    await nodes.have(again, 3, 4)
    assert [got.offset for got in again.deliveries] == ["4", "5"] or int(again.deliveries[0].offset or 0) > 2
    again.pong()
    assert nodes.a.broker.statistics().in_flight == 0


@recovery
async def test_before_the_first_node_noticed_the_loss(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.a)
    nodes.say(1, 2)
    again = await nodes.join(nodes.b, alice.pid, alice.deliveries[0].offset)
    assert again.hellos == [("received", True)]
    await nodes.have(again, 2)
    assert alice.close_reason is not None
    assert alice.close_reason.comes_back


@recovery
async def test_from_node_to_node_and_back(nodes: Nodes) -> None:
    client = await nodes.join(nodes.a)
    for number, bench in enumerate([nodes.b, nodes.c, nodes.a, nodes.c], 1):
        nodes.say(number)
        await nodes.have(client, number)
        client.cut()
        client = await nodes.join(bench, client.pid, client.deliveries[-1].offset)
        assert client.hellos == [("received", True)]
        await nodes.held_at(bench)


@recovery
async def test_a_newer_session_elsewhere_ends_the_recovery(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.a)
    nodes.say(1)
    alice.cut()
    other = await nodes.join(nodes.b)
    await nodes.have(other, 1)
    again = await nodes.join(nodes.c, alice.pid, None)
    assert again.hellos == [("received", False)]


@recovery
async def test_a_session_of_a_node_that_went_down_goes_on_elsewhere(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.b)
    nodes.say(1, 2, 3)
    await nodes.have(alice, 1, 2, 3)
    alice.cut()
    nodes.b.installation.moving.leave()
    await nodes.b.installation.close()
    nodes.pass_time(0.25)
    await until(lambda: nodes.c.installation.moving.statistics().left == 1)
    for session in list(nodes.b.sessions):
        session.recoverable = False
        nodes.b.delivery.detach(session)
    again = await nodes.join(nodes.c, alice.pid, alice.deliveries[1].offset)
    assert again.hellos == [("received", True)]
    nodes.say(4)
    await nodes.have(again, 3, 4)
    await until(lambda: nodes.a.installation.moving.statistics().left == 0)


@recovery
async def test_what_was_left_is_void_after_a_gap(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.b)
    nodes.say(1)
    await nodes.have(alice, 1)
    alice.cut()
    nodes.b.installation.moving.leave()
    await until(lambda: nodes.c.installation.moving.statistics().left == 1)
    nodes.a.installation.gap(ALICE)
    await until(lambda: nodes.c.installation.moving.statistics().left == 0)


@recovery
async def test_a_gap_anywhere_ends_the_recovery(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.b)
    alice.cut()
    nodes.a.installation.gap(ALICE)
    session = nodes.b.sessions.of_actor(ALICE)[0]
    await until(lambda: not session.recoverable)


@policies(recovery=True, window=65_535, window_bytes=2**24, max_messages=0)
async def test_a_node_that_goes_down_leaves_much_in_several_publications_and_too_much_not(nodes: Nodes) -> None:
    little, much = await nodes.join(nodes.b), await nodes.b.join(BOB)
    others = [await nodes.b.join(f"ui/456/{number}") for number in range(3)]
    for number in range(6_000):
        nodes.say(number, to=BOB)
    for other in range(3):
        nodes.say(*range(3_000), to=f"ui/456/{other}")
    nodes.say(1)
    await until(lambda: len(much.numbers) == 6_000 and all(len(other.numbers) == 3_000 for other in others))
    for client in (little, much, *others):
        client.cut()
    nodes.b.installation.moving.leave()
    await until(lambda: nodes.c.installation.moving.statistics().left == 4)


# what all nodes must know


async def test_a_sub_endpoint_is_there_on_all_nodes(nodes: Nodes) -> None:
    assert await nodes.a.subs.register("ui", "999")
    await until(lambda: nodes.c.endpoints.place("/ui/999") is not None)
    assert not await nodes.b.subs.register("ui", "999")
    kept = await nodes.b.store.sub_endpoints()
    assert [(sub.endpoint, sub.id) for sub in kept] == [("ui", "999")]


async def test_a_revocation_cuts_sessions_on_all_nodes(nodes: Nodes) -> None:
    alice = await nodes.join(nodes.b)
    await nodes.a.revocations.revoke(subject=ALICE)
    await until(lambda: "revoked" in alice.codes)
    async with asyncio.timeout(10):
        while not await nodes.c.store.revocations():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0)


async def test_a_node_that_starts_later_learns_them(nodes: Nodes) -> None:
    await nodes.a.subs.register("ui", "999")
    for number in range(2500):
        await nodes.a.subs.learn(SubEndpoint("ui", f"n{number}", 1))
    for number in range(2_100):
        await nodes.a.revocations.revoke(subject=f"{number}".ljust(512, "x"))
    late = await Bench(talking(), among=nodes.a).open()
    try:
        assert late.endpoints.place("/ui/999") is not None
        assert late.endpoints.place("/ui/n2499") is not None
        assert len(late.revocations) == 2_100
    finally:
        await late.close()


async def test_another_configuration_is_told(nodes: Nodes) -> None:
    assert not any(entry.level == "warning" for entry in nodes.a.health.check())
