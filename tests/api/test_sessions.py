"""/sessions and /actor: who is connected; cut; who may, and what is refused."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from smart_router.app import Node
from smart_router.brokers.base import Entry
from smart_router.client import Client, connect
from smart_router.message import Message
from tests.api.nodes import ADMIN, AUTH, MONITOR, NOBODY, Answer, ask, bearer
from tests.fakes.clock import until

__all__: list[str] = []

ALICE = "ui/456/alice"


def client(node: Node, actor: str = ALICE, token: str | None = None) -> Client:
    host, port = node.addresses[0]
    return connect(f"ws://{host}:{port}/ws", actor=actor, token=token)


async def call(node: Node, method: str, path: str, token: str = "", **query: Any) -> Answer:
    whole = path + ("?" + urlencode(query) if query else "")
    return await ask(node, method, whole, bearer(token) if token else {})


def put(node: Node, number: int) -> None:
    now = node.core.clock.wall_ms()
    body = b'{"id":"m-%d","from":"agent/456/bot","at":%d,"ids":{},"payload":%d}' % (number, now, number)
    policy = node.core.endpoints.target(ALICE).policy
    node.core.broker.put([Entry(Message(f"m-{number}", "agent/456/bot", now, "talk", body), ALICE, policy)])


async def test_a_session_is_shown_with_what_it_has_in_flight(node: Node) -> None:
    async with client(node) as alice:
        put(node, 1)
        assert (await alice.receive()).payload == 1
        answer = (await call(node, "GET", "/sessions")).json
        (one,) = answer["sessions"]
        assert (one["actor"], one["endpoint"], one["subject"]) == (ALICE, "ui", ALICE)
        assert one["node"] == answer["node"] == node.core.installation.me.id
        assert (one["written"], one["parked"], answer["cursor"]) == (1, False, None)
        assert (one["daemon"], one["status"], one["health"], one["metadata"]) == ("", "active", "healthy", {})
        assert one["in_flight"] in (0, 1)
        assert one["since"] > 0
    await until(lambda: len(node.core.sessions) == 0)
    assert (await call(node, "GET", "/sessions")).json["sessions"] == []


async def test_sessions_by_prefix_and_in_pages(node: Node) -> None:
    async with AsyncExitStack() as stack:
        for number in range(7):
            await stack.enter_async_context(client(node, f"ui/456/u{number}"))
        await stack.enter_async_context(client(node, "agent/456/bot"))
        seen: list[str] = []
        query: dict[str, Any] = {"prefix": "ui/", "limit": 3}
        while True:
            page = (await call(node, "GET", "/sessions", **query)).json
            seen += [one["actor"] for one in page["sessions"]]
            if page["cursor"] is None:
                break
            query["cursor"] = page["cursor"]
        assert seen == [f"ui/456/u{number}" for number in range(7)]
        answer = await call(node, "GET", "/sessions", cursor=query["cursor"])
        assert (answer.status, answer.json["code"]) == (400, "bad_cursor")


async def test_who_is_cut_comes_back_and_gets_what_waits(node: Node) -> None:
    async with client(node) as alice:
        (first,) = node.core.sessions.of_actor(ALICE)
        with capture_logs() as logged:
            answer = await call(node, "DELETE", f"/sessions/{first.id}")
        me = node.core.installation.me.id
        assert answer.json == {"sessions": [{"id": first.id, "actor": ALICE, "node": me}]}
        put(node, 1)
        assert (await asyncio.wait_for(alice.receive(), 10)).payload == 1
        (second,) = node.core.sessions.of_actor(ALICE)
        assert second.id != first.id
    (entry,) = [one for one in logged if one["event"] == "session_cut"]
    assert (entry["session_id"], entry["actor"], entry["node"]) == (first.id, ALICE, me)


@pytest.mark.parametrize("id_", ["nobody", "x" * 3000, "%00", "%FF", "a%2Fb", "*"])
async def test_a_session_that_is_not_there(node: Node, id_: str) -> None:
    async with client(node):
        answer = await call(node, "DELETE", f"/sessions/{id_}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert len(node.core.sessions) == 1


async def test_an_actor_online_and_away(node: Node) -> None:
    async with client(node):
        answer = (await call(node, "GET", "/actor", id=ALICE)).json
        assert (answer["id"], answer["online"], len(answer["sessions"])) == (ALICE, True, 1)
        assert answer["mailbox"]["waiting"] == 0
    await until(lambda: len(node.core.sessions) == 0)
    put(node, 1)
    answer = (await call(node, "GET", "/actor", id=ALICE)).json
    assert (answer["online"], answer["sessions"], answer["mailbox"]["waiting"]) == (False, [], 1)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad_message"),
        ("id=", 400, "bad_message"),
        ("actor=ui/456/alice", 400, "bad_message"),
        ("id=" + "x" * 401, 400, "bad_message"),
        ("id=alice", 400, "bad_actor"),
        ("id=ui/456/a%00", 400, "bad_actor"),
        ("id=ui/456/", 400, "bad_actor"),
        ("id=ui/456", 400, "unknown_address"),
        ("id=ui/999/alice", 400, "unknown_address"),
        ("id=nobody/alice", 400, "unknown_address"),
        ("id=/456/alice", 400, "unknown_address"),
        ("id=ui/456/nobody", 404, "not_found"),
    ],
)
async def test_actors_that_are_none(node: Node, query: str, status: int, code: str) -> None:
    answer = await ask(node, "GET", "/actor?" + query)
    assert (answer.status, answer.json["code"]) == (status, code)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "actor=ui", "prefix=" + "x" * 401])
async def test_queries_that_make_no_sense(node: Node, query: str) -> None:
    answer = await ask(node, "GET", "/sessions?" + query)
    assert (answer.status, answer.json["code"]) == (400, "bad_message")


async def test_who_may(guarded: Node) -> None:
    async with client(guarded, "ui/456/nobody", AUTH.tokens[2].token):
        (session,) = guarded.core.sessions
        for token, status in [(ADMIN, 200), (MONITOR, 200), (NOBODY, 403), ("", 401)]:
            assert (await call(guarded, "GET", "/sessions", token)).status == status
            assert (await call(guarded, "GET", "/actor", token, id="ui/456/nobody")).status == status
        for token, status in [(MONITOR, 403), (NOBODY, 403), ("", 401)]:
            assert (await call(guarded, "DELETE", f"/sessions/{session.id}", token)).status == status
        assert guarded.core.sessions.of_actor("ui/456/nobody") == [session]
        text = (await call(guarded, "GET", "/sessions", ADMIN)).body.decode()
        assert not any(one.token in text for one in AUTH.tokens)
        with capture_logs() as logged:
            assert (await call(guarded, "DELETE", f"/sessions/{session.id}", ADMIN)).status == 200
        assert session not in list(guarded.core.sessions)
        assert [one["by"] for one in logged if one["event"] == "session_cut"] == ["root"]
