"""Registration, leases, heartbeats and health of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from smart_router.errors import BrokerAway, Refused
from smart_router.gateways.base import CloseReason
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.clock import until

ALICE = "ui/456/alice"


@asynccontextmanager
async def watched(**policies: Any) -> AsyncIterator[tuple[Bench, list[dict[str, Any]]]]:
    """A node, and the events of its sessions."""
    app = talking(**policies)
    heard: list[dict[str, Any]] = []
    for name in ("session.registered", "session.unregistered", "session.expired", "session.health"):
        app.on(name, heard.append)
    async with running(app) as bench:
        yield bench, heard


def names(heard: list[dict[str, Any]]) -> list[str]:
    return [f"{event['type'][8:]} {event.get('health', '')}".strip() for event in heard]


async def known(bench: Bench) -> list[Any]:
    return [one.state for one in await bench.installation.directory.of_actor(ALICE)]


async def become(bench: Bench, **wanted: Any) -> None:
    """What others know of the only session: told in a task of its own."""
    async with asyncio.timeout(10):
        while {name: getattr((await known(bench))[0], name) for name in wanted} != wanted:  # noqa: ASYNC110 - asked for
            await asyncio.sleep(0)


# registration


async def test_what_it_says_of_itself_is_known() -> None:
    async with watched() as (bench, _):
        await bench.join(ALICE, daemon="d-1", status="idle", metadata={"host": "größe"}, lease=60)
        (state,) = await known(bench)
        assert (state.daemon, state.status, state.lease) == ("d-1", "idle", 60.0)
        assert state.metadata == '{"host":"größe"}'
        (session,) = bench.sessions.of_actor(ALICE)
        assert session.info()[-4:] == ("d-1", "idle", '{"host":"größe"}', "healthy")


async def test_who_says_nothing_is_active_for_an_hour() -> None:
    async with watched() as (bench, _):
        await bench.join(ALICE)
        (state,) = await known(bench)
        assert tuple(getattr(state, name) for name in ("daemon", "status", "metadata", "lease", "health")) == (
            "",
            "active",
            "",
            3600.0,
            "healthy",
        )


@pytest.mark.parametrize(
    ("auth", "word"),
    [
        ({"lease": 31_536_000_000_000}, "`lease`"),  # a million years
        ({"lease": 604_801}, "`lease`"),
        ({"lease": 0.5}, "`lease`"),
        ({"lease": -1}, "`lease`"),
        ({"lease": "1"}, "`lease`"),
        ({"lease": True}, "`lease`"),
        ({"lease": 10**400}, "`lease`"),
        ({"status": "sleeping"}, "active, idle, away"),
        ({"status": 1}, "active, idle, away"),
        ({"daemon": ""}, "`daemon`"),
        ({"daemon": "a b"}, "`daemon`"),
        ({"daemon": "x" * 129}, "`daemon`"),
        ({"daemon": {}}, "`daemon`"),
        ({"metadata": []}, "`metadata`"),
        ({"metadata": {"x": "y" * 4096}}, "4096"),
    ],
)
async def test_what_cannot_be_is_refused_and_registers_nothing(auth: dict[str, Any], word: str) -> None:
    async with watched() as (bench, heard):
        with pytest.raises(Refused) as refused:
            bench.client("/ui/456").open({"actor": ALICE, **auth})
        assert refused.value.code == "bad_message"
        assert word in refused.value.message
        assert (len(bench.sessions), heard, await known(bench)) == (0, [], [])


@pytest.mark.parametrize("lease", [1, 604_800, 2.5])
async def test_a_lease_within_the_limits(lease: float) -> None:
    async with watched() as (bench, _):
        await bench.join(ALICE, lease=lease)
        assert (await known(bench))[0].lease == lease


async def test_a_status_told_later() -> None:
    async with watched() as (bench, _):
        alice = await bench.join(ALICE)
        assert await alice.asked("status", {"status": "away"}) == {}
        await become(bench, status="away")


@pytest.mark.parametrize("argument", [None, {}, {"status": "gone"}, {"status": None}, [], "away"])
async def test_a_bad_status_is_refused_and_changes_nothing(argument: Any) -> None:
    async with watched() as (bench, _):
        alice = await bench.join(ALICE)
        assert (await alice.asked("status", argument))["error"]["code"] == "bad_message"
        alice.tell("status", argument)
        assert alice.codes == ["bad_message"]
        assert (await known(bench))[0].status == "active"


async def test_an_endpoints_own_route_keeps_its_name() -> None:
    app = talking()

    @app.any.on("status")
    def status(context: Any) -> None:
        context.publish(context.message.ids["to"])

    async with running(app) as bench:
        alice = await bench.join(ALICE)
        answer = await alice.asked("status", message("mine", to=ALICE))
        assert answer["status"] == "queued"
        await until(lambda: alice.numbers == ["mine"])


# leases


async def test_a_lease_that_ends_ends_the_registration_and_not_the_connection() -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10)
        bench.pass_time(9.5)
        assert len(await known(bench)) == 1
        bench.pass_time(1)
        assert names(heard) == ["registered", "expired"]
        assert (heard[-1]["actor_id"], heard[-1]["session_id"]) == (ALICE, alice.id)
        assert (len(bench.sessions), await known(bench), alice.close_reason) == (0, [], None)


HEARTBEATS = [
    lambda client: client.tell("heartbeat", {}),
    lambda client: client.tell("status", {"status": "active"}),
    lambda client: client.tell("talk", message(0, to="daemon/d")),
    lambda client: client.handler.message("talk", b'{"ids":{"to":"daemon/d"}}', None),
    lambda client: client.handler.acknowledgement(7, (), ()),
    lambda client: client.pong(),
]
ACTIVITY = pytest.mark.parametrize(
    "activity", HEARTBEATS, ids=["heartbeat", "status", "message", "fast", "answer", "pong"]
)


@ACTIVITY
async def test_any_activity_extends_the_lease(activity: Any) -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10)
        for _ in range(5):
            bench.pass_time(9)
            activity(alice)
        assert names(heard) == ["registered"]
        bench.pass_time(10.5)
        assert names(heard) == ["registered", "expired"]


@ACTIVITY
async def test_an_expired_one_registers_again_by_itself(activity: Any) -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10, daemon="d-1")
        bench.pass_time(11)
        activity(alice)
        await until(lambda: names(heard) == ["registered", "expired", "registered"])
        assert [state.daemon for state in await known(bench)] == ["d-1"]
        assert len(alice.hellos) == 1
        bench.pass_time(11)
        assert names(heard)[-1] == "expired"
        assert bench.delivery.heartbeats.statistics() == (2, 1, 0)


async def test_messages_wait_for_an_expired_session() -> None:
    async with watched(heartbeat_interval=0) as (bench, _):
        sender = await bench.join("daemon/s")
        alice = await bench.join(ALICE, lease=10)
        sender.tell("talk", message(1, to=ALICE))
        await until(lambda: alice.numbers == [1])
        bench.pass_time(11)
        sender.tell("talk", message(2, to=ALICE))
        await until(lambda: bench.waiting(ALICE) == 2)
        assert alice.numbers == [1]
        alice.tell("heartbeat", {})
        await until(lambda: alice.numbers == [1, 1, 2])
        assert [got.message.get("redelivered") for got in alice.deliveries] == [None, True, None]
        alice.pong()
        await until(lambda: bench.sessions.of_actor(ALICE)[0].in_flight == 0)


async def test_another_session_of_the_actor_gets_what_the_expired_one_had() -> None:
    async with watched(heartbeat_interval=0) as (bench, _):
        sender = await bench.join("daemon/s")
        older = await bench.join(ALICE)
        newer = await bench.join(ALICE, lease=10)
        bench.pass_time(2)
        sender.tell("talk", message(1, to=ALICE))
        await until(lambda: newer.numbers == [1])
        bench.pass_time(9)
        sender.tell("talk", message(2, to=ALICE))
        await until(lambda: older.numbers == [1, 2])


async def test_an_expired_session_that_goes_is_not_told_twice() -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10)
        bench.pass_time(11)
        alice.cut()
        assert names(heard) == ["registered", "expired"]
        assert (len(bench.sessions), list(bench.sessions)) == (0, [])


async def test_one_that_goes_while_it_registers_again() -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10)
        bench.pass_time(11)
        alice.tell("heartbeat", {})
        alice.cut()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(bench.sessions), await known(bench)) == (0, [])
        assert names(heard) == ["registered", "expired"]


async def test_a_clock_that_jumps_expires_nothing() -> None:
    async with watched() as (bench, heard):
        await bench.join(ALICE, lease=10)
        bench.clock.wall += 10**9
        bench.pass_time(5)
        bench.clock.wall -= 10**10
        bench.pass_time(4)
        assert names(heard) == ["registered"]


async def test_a_lease_costs_no_timer_for_each_message() -> None:
    async with watched() as (bench, _):
        alice = await bench.join(ALICE, lease=10)
        before = len(bench.deadlines)
        for number in range(1000):
            alice.tell("talk", message(number, to="daemon/d"))
        assert len(bench.deadlines) <= before + 1


# health


async def test_missed_heartbeats_are_told_as_health() -> None:
    async with watched(heartbeat_interval=10) as (bench, heard):
        alice = await bench.join(ALICE)
        bench.pass_time(14)
        assert names(heard) == ["registered"]
        bench.pass_time(2)
        assert names(heard)[1:] == ["health degraded"]
        assert heard[-1]["missed"] == 1
        bench.pass_time(10)
        assert len(heard) == 2
        bench.pass_time(10)
        assert names(heard)[2:] == ["health unhealthy"]
        assert heard[-1]["missed"] == 3
        assert bench.sessions.of_actor(ALICE)[0].info().health == "unhealthy"
        alice.tell("heartbeat", {})
        assert names(heard)[3:] == ["health recovering"]
        alice.tell("heartbeat", {})
        assert names(heard)[4:] == ["health healthy"]


async def test_one_missed_is_made_good_by_the_next() -> None:
    async with watched(heartbeat_interval=10) as (bench, heard):
        alice = await bench.join(ALICE)
        for _ in range(3):
            bench.pass_time(16)
            alice.pong()
        assert names(heard)[1:] == ["health degraded", "health healthy"] * 3


async def test_a_recovering_one_that_falls_silent_is_degraded_again() -> None:
    async with watched(heartbeat_interval=10) as (bench, heard):
        alice = await bench.join(ALICE)
        bench.pass_time(36)
        alice.pong()
        bench.pass_time(16)
        assert names(heard)[1:] == ["health degraded", "health unhealthy", "health recovering", "health degraded"]


async def test_the_gateways_interval_is_what_is_expected_if_nothing_is_set() -> None:
    async with watched() as (bench, heard):
        await bench.join(ALICE)
        bench.pass_time(37)
        assert names(heard) == ["registered"]
        bench.pass_time(1)
        assert names(heard)[1:] == ["health degraded"]


async def test_health_is_known_on_all_nodes() -> None:
    async with watched(heartbeat_interval=10) as (bench, _):
        await bench.join(ALICE)
        bench.pass_time(16)
        await become(bench, health="degraded")


async def test_a_revocation_cuts_an_expired_session_too() -> None:
    async with watched(heartbeat_interval=0) as (bench, _):
        alice = await bench.join(ALICE, lease=10)
        bench.pass_time(11)
        await bench.revocations.revoke(subject=ALICE)
        assert alice.close_reason is CloseReason.REVOKED
        assert list(bench.sessions) == []


async def test_while_the_directory_is_away_the_next_heartbeat_tries_again() -> None:
    async with watched(heartbeat_interval=0) as (bench, heard):
        alice = await bench.join(ALICE, lease=10)
        bench.pass_time(11)
        arrived, bench.installation.arrived = bench.installation.arrived, _away  # type: ignore[method-assign]
        alice.tell("heartbeat", {})
        for _ in range(20):
            await asyncio.sleep(0)
        assert names(heard) == ["registered", "expired"]
        bench.installation.arrived = arrived  # type: ignore[method-assign]
        alice.tell("heartbeat", {})
        await until(lambda: names(heard)[2:] == ["registered"])


async def _away(session: Any) -> None:
    raise BrokerAway("away")
