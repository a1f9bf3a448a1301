"""The operators' calls on each broker, asked of one node about what is on another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from smart_router.app import Node, SmartRouter
from smart_router.client import Client, connect
from smart_router.core.actions import Context
from tests.api.nodes import Answer, ask, running, settings_of
from tests.contracts.store import letter
from tests.fakes.clock import until
from tests.services import StartRedis, unique

__all__: list[str] = []

ALICE, BOT, OTHER = "ui/456/alice", "agent/456/bot", "agent/456/other"


class Pair(NamedTuple):
    """Two nodes; of a broker for one process the same one twice."""

    here: Node
    there: Node


@pytest.fixture(params=["embedded", "redis", "amqp"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        return f"{request.getfixturevalue('redis')}?prefix={unique('test')}:"
    return str(request.getfixturevalue("amqp_vhost")) if request.param == "amqp" else "embedded"


def routes() -> SmartRouter:
    app = SmartRouter()

    @app.any.on("talk")
    def talk(ctx: Context) -> None:
        ctx.publish(ctx.message.ids["agent"])

    return app


@pytest.fixture
async def pair(url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    if url == "embedded":
        async with running(settings_of(tmp_path), routes()) as node:
            yield Pair(node, node)
        return
    first, second = settings_of(tmp_path / "a"), settings_of(tmp_path / "b")
    broker = replace(first.broker, url=url)
    async with (
        running(replace(first, broker=broker), routes()) as here,
        running(replace(second, broker=broker), routes()) as there,
    ):
        await until(lambda: here.core.installation.moving.nodes == there.core.installation.moving.nodes == 1)
        yield Pair(here, there)
        for node in (here, there):
            for address in (BOT, OTHER, ALICE):
                await node.core.broker.delete(address)


def client(node: Node, actor: str) -> Client:
    host, port = node.addresses[0]
    return connect(f"ws://{host}:{port}/ws", actor=actor)


async def call(node: Node, method: str, path: str, body: Any = None) -> Answer:
    raw = None if body is None else json.dumps(body).encode()
    return await ask(node, method, path, {"Content-Type": "application/json"}, raw)


async def send(node: Node, payload: str) -> str:
    message = {"ids": {"agent": BOT}, "payload": payload}
    answer = await call(node, "POST", "/messages", {"actor": ALICE, "type": "talk", "message": message})
    assert answer.status == 202
    return str(answer.json["id"])


async def waiting(node: Node, address: str) -> list[str]:
    answer = await call(node, "GET", f"/mailbox/messages?address={address}")
    return [one["id"] for one in answer.json["messages"]]


async def test_from_a_mailbox_to_the_dead_letters_of_any_node_and_back(pair: Pair) -> None:
    sent = [await send(pair.here, "one"), await send(pair.here, "two")]
    assert await waiting(pair.here, BOT) == sent
    assert (await call(pair.here, "DELETE", f"/mailbox/messages?address={BOT}")).json == {"purged": 2}
    async with asyncio.timeout(10):
        while len((listed := (await call(pair.there, "GET", "/dead-letters")).json)["dead_letters"]) < 2:
            pass
    assert ({one["id"] for one in listed["dead_letters"]}, listed["missing_nodes"]) == (set(sent), [])
    whole = (await call(pair.there, "GET", f"/dead-letters/{sent[0]}")).json["dead_letters"]
    assert [one["message"]["payload"] for one in whole] == ["one"]
    answer = await call(pair.there, "POST", "/dead-letters/replay", {"where": {"address": BOT}})
    assert (answer.json["replayed"], answer.json["failed"]) == (2, 0)
    assert (await call(pair.here, "GET", "/dead-letters")).json["dead_letters"] == []
    async with client(pair.there, BOT) as bot:
        async with asyncio.timeout(10):
            got = [await bot.receive(), await bot.receive()]
    assert {message.id for message in got} == set(sent)
    assert {(message.sender, message.redelivered) for message in got} == {(ALICE, True)}


async def test_one_message_is_moved_or_the_broker_is_named_that_cannot(pair: Pair, url: str) -> None:
    first, second = await send(pair.here, "one"), await send(pair.here, "two")
    answer = await call(pair.here, "POST", "/mailbox/requeue", {"address": BOT, "id": first, "to": OTHER})
    if url.startswith("amqp"):
        assert (answer.status, answer.json["code"], answer.json["broker"]) == (501, "unsupported", "amqp")
        assert await waiting(pair.here, BOT) == [first, second]
    else:
        assert answer.status == 200
        assert (await waiting(pair.here, BOT), await waiting(pair.here, OTHER)) == ([second], [first])


async def test_a_session_elsewhere_is_listed_and_cut(pair: Pair) -> None:
    async with client(pair.there, BOT) as bot:

        async def seen() -> dict[str, Any]:
            """As soon as the other node knows of it."""
            async with asyncio.timeout(10):
                while not (found := (await call(pair.here, "GET", "/sessions?prefix=agent/")).json["sessions"]):
                    pass
            return dict(found[0])

        first = await seen()
        assert (first["actor"], first["node"]) == (BOT, pair.there.core.installation.me.id)
        assert (await call(pair.here, "GET", f"/actor?id={BOT}")).json["online"] is True
        assert (await call(pair.here, "DELETE", f"/mailbox?address={BOT}")).json["code"] == "in_use"
        assert (await call(pair.here, "DELETE", f"/sessions/{first['id']}")).json["sessions"][0]["actor"] == BOT
        sent = await send(pair.here, "back")
        async with asyncio.timeout(10):
            assert (await bot.receive()).id == sent
        (session,) = pair.there.core.sessions.of_actor(BOT)
        assert session.id != first["id"]


async def test_dead_letters_are_shown_while_the_broker_is_away(own_redis: StartRedis, tmp_path: Path) -> None:
    redis = await asyncio.to_thread(own_redis)
    first, second = settings_of(tmp_path / "a"), settings_of(tmp_path / "b")
    broker = replace(first.broker, url=redis.url)
    async with (
        running(replace(first, broker=broker), routes()) as here,
        running(replace(second, broker=broker), routes()) as there,
    ):
        await until(lambda: here.core.installation.moving.nodes == 1)
        await here.core.store.add_dead_letters([letter(1, address=BOT)])
        assert (await call(here, "GET", "/dead-letters")).json["missing_nodes"] == []
        redis.kill()
        answer = (await call(here, "GET", "/dead-letters")).json
        assert [one["id"] for one in answer["dead_letters"]] == ["id-000001"]
        assert answer["missing_nodes"] in ([], [there.core.installation.me.id])
        await asyncio.to_thread(redis.start)
