"""The program: what an application declares, and a node from start to stop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_router.app import Node, SmartRouter
from smart_router.client import Client, ClientSettings, connect
from smart_router.config.schema import BrokerSettings, ServerSettings, Settings
from smart_router.core.actions import Context
from smart_router.errors import ConfigError, Refused
from smart_router.stores.base import DeadLetterFilter
from smart_router.stores.open import open_store
from tests.fakes.bench import talking
from tests.fakes.clock import until

ALICE = "ui/456/alice"


@pytest.fixture(autouse=True)
def thaw() -> Iterator[None]:
    """A node freezes what it started with; tests give it back."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def settings(data: Path, port: int = 0, broker: str = "embedded://") -> Settings:
    return Settings(server=ServerSettings(port=port), data=str(data), broker=BrokerSettings(url=broker))


def client(node: Node, actor: str) -> Client:
    host, port = node.addresses[0]
    return connect(f"ws://{host}:{port}/ws", actor=actor, settings=ClientSettings(drain=0.1))


async def test_a_message_over_a_restart(tmp_path: Path) -> None:
    node = Node(settings(tmp_path), talking())
    assert node.ready() == ["starting"]
    await node.start()
    assert node.ready() == []
    async with client(node, "daemon/s") as sender:
        await sender.send("talk", ids={"to": ALICE}, payload="hello")
    await node.stop()
    assert node.ready() == ["starting"]
    node = Node(settings(tmp_path), talking())
    await node.start()
    async with client(node, ALICE) as alice:
        assert (await alice.receive()).payload == "hello"
    await node.stop()


async def test_every_part_tells_its_statistics(tmp_path: Path) -> None:
    node = Node(settings(tmp_path), talking())
    await node.start()
    try:
        names = [name for name, _ in node.parts()]
        assert {"router", "delivery", "receipts", "replies", "marks", "ends", "broker", "store"} < set(names)
        assert {"revocations", "tokens", "installation", "listener"} < set(names)
        assert all(isinstance(statistics, tuple) for _, statistics in node.parts())
    finally:
        await node.stop()


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    first = Node(settings(tmp_path / "a"), talking())
    await first.start()
    taken = first.addresses[0][1]
    second = Node(settings(tmp_path / "b", port=taken), talking())
    with pytest.raises(OSError, match="in use"):
        await second.start()
    third = Node(settings(tmp_path / "b"), talking())
    await third.start()
    await third.stop()
    await first.stop()


async def test_a_route_that_does_not_end_is_cut_and_its_message_kept(tmp_path: Path) -> None:
    app, waiting = talking(), asyncio.Event()

    @app.any.on("slow")
    async def slow(context: Context) -> None:
        waiting.set()
        await asyncio.Event().wait()

    node = Node(settings(tmp_path), app)
    await node.start()
    async with client(node, "daemon/s") as sender:
        sender.post("slow", ids={}, payload="kept")
        await waiting.wait()
    await node.stop()
    store = await open_store("sqlite:///", tmp_path)
    [letter] = await store.dead_letters(DeadLetterFilter())
    assert (letter.type, letter.reason) == ("slow", "route_error")
    assert b"kept" in letter.body
    await store.close()


async def test_what_waits_is_finished_within_the_drain(tmp_path: Path) -> None:
    app, waiting, go_on = talking(), asyncio.Event(), asyncio.Event()

    @app.any.on("slow")
    async def slow(context: Context) -> None:
        waiting.set()
        await go_on.wait()
        context.publish(ALICE)

    node = Node(settings(tmp_path), app)
    await node.start()
    async with client(node, "daemon/s") as sender:
        sender.post("slow", ids={}, payload=1)
        await waiting.wait()
    stopping = asyncio.create_task(node.stop(5))
    await until(lambda: node.core.router.draining)
    go_on.set()
    await stopping
    assert node.core.router.statistics().published == 1


# declarations


def test_an_endpoint_is_declared_once() -> None:
    app = SmartRouter()
    app.endpoint("ui/{id}", ack="client")
    assert app.endpoints["ui"].ack == "client"
    with pytest.raises(ConfigError, match="twice"):
        app.endpoint("ui")


def test_a_route_needs_its_endpoint() -> None:
    with pytest.raises(ConfigError, match="nobody"):
        SmartRouter().add_route("nobody", "talk", lambda context: None)


def test_a_policy_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="windw"):
        SmartRouter().endpoint("ui", windw=3)


async def test_an_event_that_does_not_exist_is_told_at_the_start(tmp_path: Path) -> None:
    app = talking()
    app.on("message.nonsense", print)
    with pytest.raises((Refused, ConfigError), match=r"message\.nonsense"):
        await Node(settings(tmp_path), app).start()
