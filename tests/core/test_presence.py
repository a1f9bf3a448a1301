"""Presence of actors, on one node and on several; who may ask; who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from smart_router.brokers.base import Capability
from smart_router.config.schema import AccessSettings, AuthSettings, Settings, TokenSettings
from smart_router.core.presence import MAX_SEEN, Presence, presence_of
from smart_router.core.watches import MAX_WATCHED
from smart_router.directory.base import SessionRecord, SessionState
from smart_router.errors import BrokerAway
from smart_router.stores.base import Watch
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE, BOB, CAROL = "ui/456/alice", "ui/456/bob", "ui/456/carol"


class Town:
    """Nodes of one installation, with one clock."""

    def __init__(self, benches: list[Bench]) -> None:
        self.a = benches[0]
        self.b = benches[-1]
        self.all = benches
        self.gone: list[Bench] = []

    async def presence(self, actor: str = ALICE) -> list[str]:
        """As each node sees it."""
        return [(await bench.watching.presences.of(actor)).presence for bench in self.all if bench not in self.gone]

    async def last_seen(self, actor: str = ALICE) -> list[int | None]:
        return [(await bench.watching.presences.of(actor)).last_seen for bench in self.all if bench not in self.gone]

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def becomes(self, wanted: str, actor: str = ALICE) -> None:
        """On all nodes; time stands still."""
        async with asyncio.timeout(10):
            while set(await self.presence(actor)) != {wanted}:  # noqa: ASYNC110 - asked for
                await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        for step in range(round(seconds / 0.25)):
            self.a.clock.advance(0.25)
            for bench in self.all:
                if bench in self.gone:
                    continue
                bench.deadlines.run(self.a.clock.now)
                deadlines = getattr(bench.installation.directory, "deadlines", None)
                if deadlines is not None:
                    deadlines.run(self.a.clock.now)
                if step % 8 == 0:
                    bench.installation.report()
            assert self.a.broker.deadlines is not None
            self.a.broker.deadlines.run(self.a.clock.now)
            await self.settle()


async def town(stack: AsyncExitStack, nodes: int, app: Callable[[], Any], **more: Any) -> Town:
    first = await Bench(app(), alone=nodes == 1, **more).open()
    stack.push_async_callback(first.close)
    benches = [first]
    for _ in range(nodes - 1):
        bench = await Bench(app(), among=first, **more).open()
        stack.push_async_callback(bench.close)
        benches.append(bench)
    await until(lambda: all(bench.installation.moving.nodes == nodes - 1 for bench in benches))
    return Town(benches)


@pytest.fixture(params=[1, 2, 3])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield await town(stack, request.param, lambda: talking(heartbeat_interval=0))


@pytest.fixture
async def two() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield await town(stack, 2, lambda: talking(heartbeat_interval=0))


def news(client: Client, actor: str = ALICE) -> list[str]:
    """What the watcher was told, repeats by the broker aside."""
    got = [delivered for delivered in client.deliveries if delivered.type == "presence"]
    assert all(set(one.n) == {"actor", "presence", "at", "last_seen"} for one in got)
    assert all(one.message["from"] == "router" for one in got)
    return [one.n["presence"] for one in got if one.n["actor"] == actor and "redelivered" not in one.message]


async def watch(bench: Bench, watcher: str = BOB, *actors: str) -> Client:
    client = await bench.join(watcher)
    answer = await client.asked("watch", {"actors": list(actors or (ALICE,))})
    assert "error" not in answer, answer
    return client


# presence


def record(status: str, health: str = "healthy", parked: bool = False) -> SessionRecord:
    return SessionRecord("s", ALICE, "ui", "n", "x", 1, SessionState(status=status, health=health, parked=parked))


@pytest.mark.parametrize(
    ("sessions", "presence"),
    [
        ([], ""),
        ([record("active")], "online"),
        ([record("idle")], "idle"),
        ([record("away")], "away"),
        ([record("away"), record("active"), record("idle")], "online"),
        ([record("away"), record("idle")], "idle"),
        ([record("active", "degraded")], "online"),
        ([record("idle", "recovering")], "idle"),
        ([record("active", "unhealthy")], "unreachable"),
        ([record("active", parked=True)], "unreachable"),
        ([record("active", "unhealthy"), record("away")], "away"),
        ([record("a status of a later version")], "unreachable"),
    ],
)
def test_the_best_session_counts(sessions: list[SessionRecord], presence: str) -> None:
    assert presence_of(sessions) == presence


async def test_nobody_has_ever_seen_it(place: Town) -> None:
    assert set(await place.presence()) == {"offline"}
    assert set(await place.last_seen()) == {None}


async def test_it_comes_and_goes_and_was_seen_last(place: Town) -> None:
    alice = await place.b.join(ALICE)
    await place.becomes("online")
    await place.pass_time(5)
    gone_at = place.a.clock.wall
    alice.cut(by_client=True)
    await place.settle()
    assert set(await place.presence()) == {"online"}  # the time of grace
    await place.pass_time(10.5)
    assert set(await place.presence()) == {"offline"}
    assert set(await place.last_seen()) == {gone_at}
    await place.a.join(ALICE)
    await place.becomes("online")
    assert set(await place.last_seen()) == {None}


async def test_the_status_is_what_it_says(place: Town) -> None:
    alice = await place.b.join(ALICE, status="away")
    await place.becomes("away")
    for status, presence in (("idle", "idle"), ("active", "online"), ("away", "away")):
        await alice.asked("status", {"status": status})
        await place.becomes(presence)
    await place.a.join(ALICE, status="idle")
    await place.becomes("idle")


async def test_an_expired_session_is_none(place: Town) -> None:
    alice = await place.b.join(ALICE, lease=10)
    await place.pass_time(22)
    assert set(await place.presence()) == {"offline"}
    alice.tell("heartbeat", {})
    await place.becomes("online")


async def test_lost_connections_that_may_come_back_are_unreachable() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 2, lambda: talking(recovery=True, recovery_window=60))
        alice = await place.b.join(ALICE)
        pid = alice.pid
        await place.becomes("online")
        alice.cut()
        await place.becomes("unreachable")
        again = await place.b.join(ALICE, pid=pid, offset="0")
        assert again.hellos[0][1] is True
        await place.becomes("online")
        again.cut()
        await place.pass_time(72)
        assert set(await place.presence()) == {"offline"}


async def test_an_unhealthy_session_is_unreachable_until_it_is_heard() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 2, lambda: talking(heartbeat_interval=10))
        alice = await place.b.join(ALICE)
        await place.pass_time(36)
        assert set(await place.presence()) == {"unreachable"}
        alice.tell("heartbeat", {})
        await place.becomes("online")


async def test_without_a_time_of_grace_it_is_gone_at_once() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 2, lambda: talking(presence_grace=0))
        alice = await place.b.join(ALICE)
        await place.becomes("online")
        alice.cut()
        await place.becomes("offline")


async def test_what_is_remembered_of_those_who_have_gone_is_bounded() -> None:
    async with running(talking()) as bench:
        presences = bench.watching.presences
        for number in range(MAX_SEEN + 10):
            presences.lost(SessionRecord("s", f"daemon/{number}", "daemon", "n", "x", 1))
        assert len(presences) == MAX_SEEN
        bench.clock.advance(20)
        assert (await presences.of("daemon/5")).last_seen is None
        assert (await presences.of("daemon/10")).last_seen is not None


# asking


async def test_many_at_once(two: Town) -> None:
    bob = await two.a.join(BOB)
    await two.b.join(ALICE, status="idle")
    await two.becomes("idle")
    answer = await bob.asked("presence", {"actors": [ALICE, CAROL, BOB, ALICE]})
    assert answer == {
        "presence": [
            {"actor": ALICE, "presence": "idle", "last_seen": None},
            {"actor": CAROL, "presence": "offline", "last_seen": None},
            {"actor": BOB, "presence": "online", "last_seen": None},
        ]
    }


BAD: list[tuple[Any, str]] = [
    (None, "bad_message"),
    ({}, "bad_message"),
    ({"actors": []}, "bad_message"),
    ({"actors": ALICE}, "bad_message"),
    ({"actors": [1]}, "bad_message"),
    ({"actors": [f"daemon/{number}" for number in range(1001)]}, "bad_message"),
    ({"actors": ["no actor"]}, "bad_actor"),
    ({"actors": ["nowhere/x"]}, "unknown_address"),
    ({"actors": ["ui/999/x"]}, "unknown_address"),
    ({"actors": ["ui/456"]}, "unknown_address"),
    ({"actors": [ALICE, "daemon"]}, "unknown_address"),
]


@pytest.mark.parametrize("event", ["presence", "watch", "unwatch"])
@pytest.mark.parametrize(("argument", "code"), BAD)
async def test_what_cannot_be_asked_is_refused_and_changes_nothing(event: str, argument: Any, code: str) -> None:
    async with running(talking()) as bench:
        bob = await bench.join(BOB)
        await bob.asked("watch", {"actors": [CAROL]})
        answer = await bob.asked(event, argument)
        if event == "unwatch" and code != "bad_message":
            assert answer == {}  # it watches no such actor
        else:
            assert answer["error"]["code"] == code
            bob.tell(event, argument)
            await until(lambda: bob.codes == [code])
        assert bench.watching.watches.of(BOB) == [CAROL]
        assert [one.actor for one in await bench.store.watches()] == [CAROL]


TOKENS = AuthSettings(
    tokens=[
        TokenSettings(token="bob-0123456789abcdef", subject=BOB),
        TokenSettings(token="root-0123456789abcdef", subject=CAROL, scope="sees"),
    ]
)


def guarded(rule: str | None) -> Callable[[], Any]:
    def app() -> Any:
        made = talking()
        ui = made.endpoints["ui"]
        access = AccessSettings(presence=rule)
        made.endpoints["ui"] = type(ui)(
            **{name: getattr(ui, name) for name in ui.__struct_fields__} | {"access": access}
        )
        return made

    return app


@pytest.mark.parametrize("event", ["presence", "watch"])
@pytest.mark.parametrize(
    ("rule", "bob_may", "carol_may"),
    [
        (None, False, False),
        ('"sees" in scopes', False, True),
        ('address.startsWith("ui/" + sub + "/")', True, True),
        ("true", True, True),
        ("claims.nothing == 1", False, False),
    ],
)
async def test_who_may_see_whom(event: str, rule: str | None, bob_may: bool, carol_may: bool) -> None:
    async with running(guarded(rule)(), auth=TOKENS, settings=Settings(auth=TOKENS)) as bench:
        for actor, token, may in ((BOB, "bob-0123456789abcdef", bob_may), (CAROL, "root-0123456789abcdef", carol_may)):
            client = await bench.join(actor, token=token)
            assert "error" not in await client.asked(event, {"actors": [actor]})
            answer = await client.asked(event, {"actors": [actor, ALICE]})
            assert ("error" not in answer) == may
            if not may:
                assert answer["error"]["code"] == "forbidden"
                assert ALICE not in bench.watching.watches.of(actor)


async def test_the_directory_is_away(two: Town) -> None:
    bob = await two.a.join(BOB)

    class Away:
        async def of_actor(self, actor: str) -> list[SessionRecord]:
            raise BrokerAway("away")

    two.a.watching.presences._directory = Away()  # type: ignore[assignment]
    assert (await bob.asked("presence", {"actors": [ALICE]}))["error"]["code"] == "broker_away"


# watching


async def test_a_watcher_is_told_of_each_change_once(place: Town) -> None:
    bob = await watch(place.a)
    alice = await place.b.join(ALICE)
    await until(lambda: news(bob) == ["online"])
    await alice.asked("status", {"status": "away"})
    await until(lambda: news(bob) == ["online", "away"])
    await alice.asked("status", {"status": "away"})
    alice.cut()
    bob.pong()
    await place.settle()
    await place.pass_time(9)
    assert news(bob) == ["online", "away"]
    gone_at = place.a.clock.wall
    await place.pass_time(30)
    assert news(bob) == ["online", "away", "offline"]
    last = bob.deliveries[-1].n
    assert last["last_seen"] == gone_at - 9_000
    assert gone_at < last["at"] < gone_at + 2_000


async def test_a_reconnect_within_the_time_of_grace_is_no_news(place: Town) -> None:
    bob = await watch(place.a)
    for bench in (place.b, place.a, place.b):
        alice = await bench.join(ALICE)
        await place.becomes("online")
        await place.pass_time(3)
        alice.cut()
        await place.pass_time(8)
    await place.pass_time(20)
    assert news(bob) == ["online", "offline"]


async def test_the_answer_says_what_is_so_now(two: Town) -> None:
    await two.b.join(ALICE, status="idle")
    await two.becomes("idle")
    bob = await two.a.join(BOB)
    answer = await bob.asked("watch", {"actors": [ALICE, CAROL]})
    assert [(one["actor"], one["presence"]) for one in answer["presence"]] == [(ALICE, "idle"), (CAROL, "offline")]
    await two.pass_time(30)
    assert news(bob) == []


async def test_a_watcher_that_was_away_catches_up_with_the_newest(place: Town) -> None:
    bob = await watch(place.a)
    bob.cut()
    alice = await place.b.join(ALICE)
    await until(lambda: place.a.waiting(BOB) == 1)
    await alice.asked("status", {"status": "idle"})
    await place.settle()
    alice.cut()
    await place.pass_time(12)
    again = await place.a.join(BOB)
    await until(lambda: news(again)[-1:] == ["offline"])
    supersedes = Capability.SUPERSEDE in place.a.broker.capabilities
    assert news(again) == (["offline"] if supersedes else ["online", "idle", "offline"])


async def test_who_watches_no_more_is_told_no_more(place: Town) -> None:
    bob = await watch(place.b)
    carol = await watch(place.a, CAROL)
    await place.settle()
    assert await bob.asked("unwatch", {"actors": [ALICE, BOB]}) == {}
    await place.settle()
    await place.b.join(ALICE)
    await until(lambda: news(carol) == ["online"])
    await place.pass_time(5)
    assert news(bob) == []
    assert {len(bench.watching.watches) for bench in place.all} == {1}


async def test_an_actor_without_a_mailbox_of_its_own_is_told_too() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 2, lambda: talking(mailbox="endpoint"))
        bob = await watch(place.a)
        await place.b.join(ALICE)
        await until(lambda: news(bob) == ["online"])


async def test_a_thousand_and_not_one_more(two: Town) -> None:
    bob = await two.a.join(BOB)
    thousand = [f"daemon/{number}" for number in range(MAX_WATCHED)]
    assert len((await bob.asked("watch", {"actors": thousand}))["presence"]) == MAX_WATCHED
    assert "error" not in await bob.asked("watch", {"actors": thousand[:5]})
    answer = await bob.asked("watch", {"actors": [ALICE]})
    assert (answer["error"]["code"], answer["error"]["limit"]) == ("too_many_watches", MAX_WATCHED)
    assert two.a.watching.watches.of(BOB) == thousand
    await bob.asked("unwatch", {"actors": thousand[:1]})
    assert "error" not in await bob.asked("watch", {"actors": [ALICE]})


async def test_watches_survive_a_restart_and_what_changed_meanwhile_is_told(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        bench = await Bench(talking(), tmp_path).open()
        bob = await watch(bench)
        await bench.join(ALICE)
        await until(lambda: news(bob) == ["online"])
        bob.pong()
        await until(lambda: bench.sessions.of_actor(BOB)[0].in_flight == 0)
        bench = await bench.again()
        stack.push_async_callback(bench.close)
        place = Town([bench])
        assert bench.watching.watches.of(BOB) == [ALICE]
        bob = await bench.join(BOB)
        await place.pass_time(9)
        assert news(bob) == []  # it may still come back
        await place.pass_time(10)
        assert news(bob) == ["offline"]


async def test_a_newcomer_knows_the_watches_and_what_was_told() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 2, talking)
        bob = await watch(place.a)
        await place.a.join(ALICE)
        await until(lambda: news(bob) == ["online"])
        await bob.asked("watch", {"actors": [CAROL]})
        await bob.asked("unwatch", {"actors": [CAROL]})
        third = await Bench(talking(), among=place.a).open()
        stack.push_async_callback(third.close)
        assert third.watching.watches.of(BOB) == [ALICE]
        assert [one.active for one in await third.store.watches()] == [True, False]
        place.all.append(third)
        await place.pass_time(30)
        assert news(bob) == ["online"]
        await third.join(CAROL)
        await place.pass_time(5)
        assert news(bob, CAROL) == []


async def test_of_a_dead_node_the_others_tell(place: Town) -> None:
    if len(place.all) == 1:
        pytest.skip("nobody is left")
    bob = await watch(place.a)
    await place.b.join(ALICE)
    await until(lambda: news(bob) == ["online"])
    bob.pong()
    place.gone.append(place.b)
    await place.b.installation.bus.close()
    await place.pass_time(6)
    assert news(bob) == ["online"]
    await place.pass_time(14)
    assert news(bob) == ["online", "offline"]


async def test_an_actor_whose_node_dies_and_who_comes_back_in_time_was_never_offline() -> None:
    async with AsyncExitStack() as stack:
        place = await town(stack, 3, talking)
        bob = await watch(place.a)
        await place.b.join(ALICE)
        await until(lambda: news(bob) == ["online"])
        place.gone.append(place.b)
        await place.b.installation.bus.close()
        await place.pass_time(8)
        await place.all[1].join(ALICE)
        await place.pass_time(30)
        assert news(bob) == ["online"]


async def test_both_of_its_sessions_go_at_once(two: Town) -> None:
    bob = await watch(two.a)
    here, there = await two.a.join(ALICE), await two.b.join(ALICE)
    await until(lambda: news(bob) == ["online"])
    here.cut()
    there.cut()
    await two.pass_time(25)
    assert news(bob) == ["online", "offline"]


async def test_messages_of_a_program_of_that_type_are_none_of_ours() -> None:
    app = talking()

    @app.any.on("presence")
    def presence(context: Any) -> None:
        context.publish(context.message.ids["to"])

    async with running(app) as bench:
        bob = await bench.join(BOB)
        assert (await bob.asked("presence", message(1, to=BOB)))["status"] == "queued"
        await until(lambda: bob.numbers == [1])


async def test_a_watch_that_ended_while_a_node_was_away_does_not_come_back(two: Town) -> None:
    bob = await watch(two.a)
    await until(lambda: two.b.watching.watches.of(BOB) == [ALICE])
    old = await two.b.store.watches()
    await bob.asked("unwatch", {"actors": [ALICE]})
    await until(lambda: two.b.watching.watches.of(BOB) == [])
    two.a.watching.watches._apply(old)
    assert two.a.watching.watches.of(BOB) == []
    two.a.clock.advance(8 * 86_400)
    await two.a.store.put_watches([Watch(CAROL, ALICE, 5)])
    await two.a.watching.open()
    assert [one.watcher for one in await two.a.store.watches()] == [CAROL]


def test_presence_is_a_plain_value() -> None:
    assert Presence(ALICE, "offline", 5) == Presence(ALICE, "offline", 5)
