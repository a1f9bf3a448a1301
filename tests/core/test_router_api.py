"""What programs ask of the router object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from smart_router.core.presence import Presence
from smart_router.errors import Refused
from tests.core.test_presence import Town, town
from tests.fakes.bench import Bench, running, talking
from tests.fakes.clock import until

ALICE = "ui/456/alice"


@pytest.fixture
async def two() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield await town(stack, 2, lambda: talking(heartbeat_interval=0))


async def test_the_sessions_of_an_actor_wherever_they_are(two: Town) -> None:
    router = two.a.router
    assert await router.get_sessions(ALICE) == []
    assert await router.get_session(ALICE) is None
    older = await two.a.join(ALICE, daemon="d-1")
    two.a.clock.advance(1)
    newer = await two.b.join(ALICE, daemon="d-2", status="away")
    await two.settle()
    assert [one.id for one in await router.get_sessions(ALICE)] == [older.id, newer.id]
    chosen = await router.get_session(ALICE)
    assert chosen is not None
    assert (chosen.id, chosen.state.daemon, chosen.node) == (newer.id, "d-2", two.b.installation.me.id)


async def test_a_lost_session_is_not_chosen() -> None:
    async with running(talking(recovery=True)) as bench:
        alice = await bench.join(ALICE)
        alice.cut()
        while not (await bench.router.get_sessions(ALICE))[0].state.parked:  # noqa: ASYNC110 - asked for
            await asyncio.sleep(0)
        assert await bench.router.get_session(ALICE) is None
        assert await bench.router.is_online(ALICE) is False


async def test_who_is_online(two: Town) -> None:
    router = two.a.router
    assert await router.is_online(ALICE) is False
    alice = await two.b.join(ALICE, status="away")
    await two.becomes("away")
    assert await router.is_online(ALICE) is True
    assert await router.get_presence(ALICE) == Presence(ALICE, "away")
    alice.cut()
    await two.pass_time(12)
    assert await router.is_online(ALICE) is False


async def test_activity_that_a_program_knows_of_extends_the_lease() -> None:
    async with running(talking(heartbeat_interval=0)) as bench:
        alice = await bench.join(ALICE, lease=10)
        for _ in range(3):
            bench.pass_time(9)
            assert await bench.router.update_session_activity(ALICE) == 1
        assert await bench.router.update_session_activity(ALICE, "another") == 0
        bench.pass_time(10.5)
        assert len(bench.sessions) == 0
        assert await bench.router.update_session_activity(ALICE, alice.id) == 1
        await until(lambda: len(bench.sessions) == 1)


async def test_a_message_for_whoever_is_away(two: Town) -> None:
    id_ = await two.a.router.queue_message_for_offline({"payload": {"n": 1}}, ALICE, type="talk")
    assert two.a.waiting(ALICE) == 1
    alice = await two.b.join(ALICE)
    await until(lambda: alice.numbers == [{"n": 1}])
    (got,) = alice.deliveries
    assert (got.message["id"], got.message["from"], got.message["ids"], got.type) == (id_, "router", {}, "talk")


@pytest.mark.parametrize(
    ("actor", "message", "code"),
    [
        ("nowhere/x", {}, "unknown_address"),
        ("ui/456", {}, "unknown_address"),
        ("a b", {}, "bad_actor"),
        (ALICE, {"payload": "x" * 70_000}, "too_large"),
    ],
)
async def test_what_cannot_be_put_is_refused(actor: str, message: dict[str, Any], code: str) -> None:
    async with running(talking()) as bench:
        with pytest.raises(Refused) as refused:
            await bench.router.queue_message_for_offline(message, actor, type="talk")
        assert refused.value.code == code
        assert bench.broker.statistics().mailboxes == 0


async def test_an_endpoint_without_own_mailboxes() -> None:
    async with running(talking(mailbox="endpoint")) as bench:
        with pytest.raises(Refused) as refused:
            await bench.router.queue_message_for_offline({}, ALICE, type="talk")
        assert refused.value.code == "no_mailbox"


async def test_routes_ask_too() -> None:
    app = talking()
    seen: list[bool] = []

    @app.any.on("ask")
    async def ask(context: Any) -> None:
        seen.append(await context.router.is_online(context.message.ids["who"]))

    async def answered(bench: Bench, who: str) -> None:
        client = await bench.join("daemon/d")
        await client.asked("ask", {"ids": {"who": who}})

    async with running(app) as bench:
        await answered(bench, ALICE)
        await bench.join(ALICE)
        await answered(bench, ALICE)
    assert seen == [False, True]
