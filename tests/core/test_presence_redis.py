"""Presence of actors on two whole nodes that share a Redis, which tells nobody of other nodes' sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from smart_router.app import Node
from smart_router.client import Client, Presence, connect
from smart_router.config.load import endpoint_settings
from smart_router.config.schema import BrokerSettings, ServerSettings, Settings
from smart_router.core.elsewhere import Nobody
from smart_router.directory.redis import RedisDirectory
from tests.services import StartRedis

ALICE, BOB = "ui/456/alice", "ui/456/bob"


@asynccontextmanager
async def nodes(url: str, folder: Path) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in ("a", "b"):
            ui = endpoint_settings("ui/{id}", sub_endpoints=["456"], presence_grace=0.5)
            broker, server = BrokerSettings(url=url), ServerSettings(port=0)
            settings = Settings(server=server, broker=broker, endpoints={"ui": ui}, data=str(folder / name), node=name)
            node = Node(settings)
            await node.start()
            stack.push_async_callback(node.stop)
            found.append(node)
        yield found


def ws(node: Node) -> str:
    host, port = node.addresses[0]
    return f"ws://{host}:{port}/ws"


async def news(watcher: Client, count: int) -> list[str]:
    async with asyncio.timeout(15):
        return [(await watcher.receive()).payload["presence"] for _ in range(count)]


async def test_changes_on_one_node_are_told_on_the_other(own_redis: StartRedis, tmp_path: Path) -> None:
    async with nodes(own_redis().url, tmp_path) as (a, b), connect(ws(a), actor=BOB) as bob:
        assert await bob.watch(ALICE) == [Presence(ALICE, "offline")]
        async with connect(ws(b), actor=ALICE) as alice:
            assert await news(bob, 1) == ["online"]
            await alice.set_status("idle")
            assert await news(bob, 1) == ["idle"]
        assert await news(bob, 1) == ["offline"]
        seen = [(await node.core.router.get_presence(ALICE)).last_seen for node in (a, b)]
        assert seen[0] == seen[1] is not None


async def test_a_node_that_crashes_takes_its_actors_with_it(own_redis: StartRedis, tmp_path: Path) -> None:
    async with nodes(own_redis().url, tmp_path) as (a, b), connect(ws(a), actor=BOB) as bob:
        await bob.watch(ALICE)
        async with connect(ws(b), actor=ALICE):
            assert await news(bob, 1) == ["online"]
            directory = b.core.installation.directory
            assert isinstance(directory, RedisDirectory)
            b.core.installation.onlooker = Nobody()
            await b.core.installation.bus.close()
            directory.abort()
            assert await news(bob, 1) == ["offline"]
            told = (await a.core.router.get_presence(ALICE)).last_seen
            assert told is not None


pytestmark = pytest.mark.slow
