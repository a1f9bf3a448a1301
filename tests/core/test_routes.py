"""Routes: functions of every kind, and those of the configuration file."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest

from smart_router.app import SmartRouter
from smart_router.config.load import load_settings
from smart_router.core.actions import Context
from smart_router.core.routes import Routes
from smart_router.errors import ConfigError
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE = "ui/456/alice"
LIVE_CHAT = Path(__file__).parents[2] / "examples/live_chat/smart-router.toml"


class Gate:
    """A route that waits until the test says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0

    async def route(self, context: Context) -> None:
        self.waiting += 1
        await self.open.wait()
        context.publish(ALICE)


async def no_await(context: Context) -> None:
    context.publish(ALICE)


async def with_await(context: Context) -> None:
    await asyncio.sleep(0)
    context.publish(ALICE)


class Instance:
    async def __call__(self, context: Context) -> None:
        await asyncio.sleep(0)
        context.publish(ALICE)


@functools.wraps(no_await)
def wrapped(context: Context) -> Any:
    return with_await(context)


KINDS: dict[str, Any] = {
    "def": lambda context: context.publish(ALICE),
    "async": no_await,
    "await": with_await,
    "object": Instance(),
    "wrapped": wrapped,
    "partial": functools.partial(with_await),
    "returns": lambda context: with_await(*[context]),
    "value": lambda context: context.publish(ALICE) or 7,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_function_is_run(kind: str) -> None:
    app = talking()
    app.add_route("daemon", "it", KINDS[kind])
    async with running(app) as bench:
        alice, sender = await bench.join(ALICE), await bench.join("daemon/s")
        assert (await sender.asked("it", message(1)))["status"] == "queued"
        await until(lambda: alice.deliveries)
        assert alice.numbers == [1]


@pytest.mark.parametrize("waits", [True, False])
async def test_an_async_route_that_raises(waits: bool) -> None:
    async def broken(context: Context) -> None:
        context.publish(ALICE)
        if waits:
            await asyncio.sleep(0)
        raise KeyError("x")

    app = talking()
    app.add_route("daemon", "it", broken)
    async with running(app) as bench:
        sender = await bench.join("daemon/s")
        assert (await sender.asked("it", message(1)))["error"]["code"] == "route_error"
        assert bench.waiting(ALICE) == 0
        [letter] = await bench.dead_letters(1)
        assert letter.reason == "route_error"


async def opened(gate: Gate) -> Bench:
    app = talking()
    app.add_route("daemon", "slow", gate.route)
    return await Bench(app).open()


async def test_a_route_that_waits_holds_up_its_own_session_only() -> None:
    gate = Gate()
    bench = await opened(gate)
    alice, sender, other = [await bench.join(actor) for actor in (ALICE, "daemon/s", "daemon/t")]
    sender.tell("slow", message(1))
    sender.tell("talk", message(2, to=ALICE))
    other.tell("talk", message(3, to=ALICE))
    await until(lambda: gate.waiting)
    assert alice.numbers == [3]
    gate.open.set()
    await until(lambda: len(alice.deliveries) == 3)
    assert alice.numbers == [3, 1, 2]
    await bench.close()


async def test_behind_a_route_that_waits_reading_stops_and_goes_on() -> None:
    gate = Gate()
    bench = await opened(gate)
    alice, sender = await bench.join(ALICE), await bench.join("daemon/s")
    sender.tell("slow", message(0))
    for number in range(1, 64):
        sender.tell("talk", message(number, to=ALICE))
    states = [sender.reading]
    sender.tell("talk", message(64, to=ALICE))
    states.append(sender.reading)
    assert states == [True, False]
    gate.open.set()
    await until(lambda: len(alice.deliveries) == 65)
    assert alice.numbers == list(range(65))
    assert sender.reading
    await bench.close()


async def test_what_a_route_does_after_its_sender_left_is_done() -> None:
    gate = Gate()
    bench = await opened(gate)
    alice, sender = await bench.join(ALICE), await bench.join("daemon/s")
    sender.tell("slow", message(1))
    sender.tell("talk", message(2, to=ALICE))
    sender.cut()
    gate.open.set()
    await until(lambda: alice.deliveries)
    await bench.actors.settled()
    assert alice.numbers == [1]
    await bench.close()


def nothing(context: Context) -> None:
    pass


@pytest.mark.parametrize("type_", ["iam", "refresh", "whoareyou", "hello", "error"])
def test_the_handshakes_own_types_cannot_be_routed(type_: str) -> None:
    with pytest.raises(ConfigError, match=type_):
        Routes().add("*", type_, nothing)


def test_one_route_per_type_and_endpoint() -> None:
    routes = Routes()
    routes.add("ui", "talk", nothing)
    routes.add("*", "talk", nothing)
    with pytest.raises(ConfigError, match="talk"):
        routes.add("ui", "talk", nothing)
    assert len(routes) == 2


async def test_an_endpoints_own_route_goes_before_everybodys() -> None:
    app = talking()
    app.add_route("daemon", "talk", lambda context: context.publish(ALICE, "own"))
    async with running(app) as bench:
        alice, sender = await bench.join(ALICE), await bench.join("daemon/s")
        await sender.asked("talk", message(1, to="nobody"))
        alice.tell("talk", message(2, to=ALICE))
        assert [got.type for got in alice.deliveries] == ["own", "talk"]


# the worked example, as it stands in the file


@pytest.fixture
async def live_chat() -> Any:
    async with running(SmartRouter(), settings=load_settings(LIVE_CHAT)) as bench:
        yield bench


WORKED = [
    # sent by, type, ids, metadata → (to, type)
    ("ui/456/u1", "talk", {"agent": "agent/456/bot"}, None, [("agent/456/bot", "talk")]),
    ("ui/456/u1", "talk", {"agent": "agent/456/bot", "service": "livechat/acme"}, None, [("agent/456/bot", "talk")]),
    ("ui/456/u1", "talk", {"agent": "agent/456/bot"}, {"service": True}, [("agent/456/bot", "talk")]),
    (
        "ui/456/u1",
        "talk",
        {"agent": "agent/456/bot", "service": "livechat/acme"},
        {"service": True},
        [("livechat/acme", "talk"), ("agent/456/bot", "log")],
    ),
    ("agent/456/bot", "talkback", {"ui": "ui/456/u1"}, None, [("ui/456/u1", "talkback")]),
    ("livechat/acme/ann", "talkback", {"ui": "ui/456/u1"}, {}, [("ui/456/u1", "talkback")]),
    ("agent/456/bot", "sessionrequest", {"service": "livechat/acme"}, None, [("livechat/acme", "sessionrequest")]),
    ("ui/456/u1", "echo", {"default": "ui/456/u1"}, None, [("ui/456/u1", "echo")]),
    ("livechat/acme/ann", "echo", {"default": "agent/456"}, None, [("agent/456", "echo")]),
]


@pytest.mark.parametrize(("actor", "type_", "ids", "metadata", "published"), WORKED)
async def test_the_worked_example(
    live_chat: Bench, actor: str, type_: str, ids: Any, metadata: Any, published: list[tuple[str, str]]
) -> None:
    sender: Client = await live_chat.join(actor)
    body = {"ids": ids, "payload": 1} | ({} if metadata is None else {"metadata": metadata})
    answer = await sender.asked(type_, body)
    assert answer["status"] == "queued"
    found = []
    for address in {*ids.values(), actor}:
        entries = await live_chat.broker.peek(address)
        found += [(entry.address, entry.message.type) for entry in entries]
    found += [(actor, got.type) for got in sender.deliveries]
    assert sorted(found) == sorted(published)


@pytest.mark.parametrize(
    ("actor", "type_", "ids", "code"),
    [
        ("ui/456/u1", "talk", {}, "bad_address"),
        ("ui/456/u1", "talk", {"agent": None}, "bad_address"),
        ("ui/456/u1", "talkback", {"ui": "ui/456/u1"}, "no_route"),
        ("agent/456/bot", "talk", {"agent": "agent/456/bot"}, "no_route"),
        ("agent/456/bot", "sessionrequest", {"service": "livechat/none"}, "unknown_address"),
        ("agent/456/bot", "sessionrequest", {"service": "livechat/acme/ann"}, "no_mailbox"),
    ],
)
async def test_what_the_worked_example_refuses(live_chat: Bench, actor: str, type_: str, ids: Any, code: str) -> None:
    sender: Client = await live_chat.join(actor)
    answer = await sender.asked(type_, {"ids": ids})
    assert answer["error"]["code"] == code
