"""An operator cuts a session on whichever node it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from smart_router.core.cutting import Cut, Cutting
from smart_router.gateways.base import CloseReason
from tests.fakes.bench import Bench, message, talking
from tests.fakes.clock import until

ALICE = "ui/456/alice"


@pytest.fixture
async def nodes() -> AsyncIterator[list[Bench]]:
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for _ in range(3):
            bench = Bench(talking(recovery=True), alone=False, among=benches[0] if benches else None)
            benches.append(await bench.open())
            stack.push_async_callback(bench.close)
        await until(lambda: all(bench.installation.moving.nodes == 2 for bench in benches))
        yield benches


@pytest.mark.parametrize("there", [0, 1])
async def test_it_is_cut_wherever_it_is_and_what_it_had_waits(nodes: list[Bench], there: int) -> None:
    cutting = [Cutting(bench.core) for bench in nodes]
    sender = await nodes[there].join("daemon/s")
    alice = await nodes[there].join(ALICE)
    sender.tell("talk", message(1, to=ALICE))
    await until(lambda: alice.numbers == [1])
    (session,) = nodes[there].sessions.of_actor(ALICE)
    assert await cutting[0].cut(session.id) == [Cut(session.id, ALICE, nodes[there].installation.me.id)]
    assert alice.close_reason is CloseReason.TAKEN_OVER
    assert alice.close_reason.comes_back
    assert nodes[there].sessions.of_actor(ALICE) == []
    await until(lambda: nodes[0].waiting(ALICE) == 1)
    again = await nodes[2].join(ALICE)
    await until(lambda: again.numbers == [1])
    assert again.deliveries[0].message["redelivered"] is True


async def test_a_parked_one_cannot_be_taken_up_any_more(nodes: list[Bench]) -> None:
    cutting = [Cutting(bench.core) for bench in nodes]
    alice = await nodes[1].join(ALICE)
    alice.cut()
    (session,) = nodes[1].sessions.of_actor(ALICE)
    assert session.parked_until is not None
    assert len(await cutting[0].cut(session.id)) == 1
    again = await nodes[1].join(ALICE, alice.pid)
    assert again.hellos[-1][1] is False


async def test_nobody_has_it(nodes: list[Bench]) -> None:
    cutting = [Cutting(bench.core) for bench in nodes]
    assert await cutting[0].cut("nobody") == []
    assert await cutting[0].cut("\ud800" + "x" * 10_000) == []
