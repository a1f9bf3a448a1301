"""Dead letters of several nodes, each with a store of its own: one list, and work on all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from smart_router.core.alldeadletters import AllDeadLetters
from smart_router.core.deadletters import Position
from smart_router.stores.base import DeadLetter, DeadLetterFilter
from tests.contracts.store import letter
from tests.fakes.bench import Bench, talking
from tests.fakes.clock import until

EVERYTHING = DeadLetterFilter()
ALICE = "ui/456/alice"


def of(number: int, **changes: object) -> DeadLetter:
    return letter(number, **{"address": ALICE, **changes})


@pytest.fixture
async def nodes() -> AsyncIterator[list[Bench]]:
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for _ in range(3):
            bench = Bench(talking(), alone=False, among=benches[0] if benches else None)
            benches.append(await bench.open())
            stack.push_async_callback(bench.close)
        await until(lambda: all(bench.installation.moving.nodes == 2 for bench in benches))
        yield benches


async def ids(bench: Bench) -> list[str]:
    return [one.id for one in await bench.store.dead_letters(EVERYTHING, limit=5_000)]


async def test_pages_of_all_nodes_join_without_gap(nodes: list[Bench]) -> None:
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    for number in range(100):
        await nodes[number % 3].store.add_dead_letters([of(number, ended_at=10_000 + number // 7)])
    seen: list[str] = []
    after: Position | None = None
    while True:
        page = await everywhere[1].page(EVERYTHING, after, 9)
        assert (len(page.heads) <= 9, page.missing) == (True, [])
        seen += [head.id for head in page.heads]
        after = page.heads[-1].position
        if not page.more:
            break
    assert seen == [of(number).id for number in range(100)]


async def test_what_does_not_fit_into_one_answer_comes_with_the_next_page(nodes: list[Bench]) -> None:
    """A type may be as long as a message."""
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    for number in range(60):
        await nodes[number % 2].store.add_dead_letters([of(number, type="t" * 50_000)])
    seen: list[str] = []
    after: Position | None = None
    more = True
    while more:
        page = await everywhere[2].page(EVERYTHING, after, 1000)
        seen += [head.id for head in page.heads]
        after, more = page.heads[-1].position, page.more
    assert seen == [of(number).id for number in range(60)]


async def test_one_message_is_found_wherever_its_letters_are(nodes: list[Bench]) -> None:
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    letters = [of(1, address=f"ui/456/{number}") for number in range(3)]
    for bench, one in zip(nodes, letters, strict=True):
        await bench.store.add_dead_letters([one])
    assert await everywhere[0].of_id("id-000001") == (letters, [])
    assert await everywhere[0].of_id("nobody") == ([], [])


async def test_replay_and_purge_work_on_one_node_after_the_other(nodes: list[Bench]) -> None:
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    for number in range(30):
        await nodes[number % 3].store.add_dead_letters([of(number)])
    outcome = await everywhere[0].replay(EVERYTHING, 25, None, "root")
    assert (outcome.done, outcome.failed, outcome.missing) == (25, 0, [])
    assert sorted([len(await ids(bench)) for bench in nodes]) == [0, 0, 5]
    assert nodes[0].waiting(ALICE) == 25
    assert (await everywhere[0].purge(EVERYTHING, 1000)).done == 5
    assert [await ids(bench) for bench in nodes] == [[], [], []]


async def test_what_another_node_refuses_is_told(nodes: list[Bench]) -> None:
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    await nodes[2].store.add_dead_letters([of(number, address="nobody/x", type="t" * 50_000) for number in range(40)])
    outcome = await everywhere[0].replay(EVERYTHING, 100, None, "root")
    assert (outcome.done, outcome.failed) == (0, 40)
    assert 0 < len(outcome.refused) < 40, "as many as one answer on the bus can hold"
    assert {one.code for one in outcome.refused} == {"unknown_address"}
    assert len(await ids(nodes[2])) == 40


async def test_a_node_that_cannot_answer_is_named(nodes: list[Bench]) -> None:
    everywhere = [AllDeadLetters(bench.core) for bench in nodes]
    await nodes[0].store.add_dead_letters([of(1)])
    await nodes[1].store.close()
    page = await everywhere[0].page(EVERYTHING, None, 10)
    assert ([head.id for head in page.heads], page.missing) == (["id-000001"], [nodes[1].installation.me.id])
    assert (await everywhere[0].purge(EVERYTHING, 10)).missing == [nodes[1].installation.me.id]
