"""GET and POST /presence: whether actors are there; who may ask."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from smart_router.app import Node
from smart_router.client import connect
from tests.api.nodes import ADMIN, AUTH, MONITOR, NOBODY, Answer, ask, bearer

ALICE, BOB, SELF = "ui/456/alice", "ui/456/bob", "ui/456/nobody"
JSON = {"Content-Type": "application/json"}


async def post(node: Node, body: Any, token: str | None = None) -> Answer:
    headers = JSON | (bearer(token) if token else {})
    return await ask(node, "POST", "/presence", headers, json.dumps(body).encode())


def ws(node: Node) -> str:
    host, port = node.addresses[0]
    return f"ws://{host}:{port}/ws"


async def test_one_and_many(node: Node) -> None:
    async with connect(ws(node), actor=ALICE):
        answer = await ask(node, "GET", f"/presence?id={ALICE}")
        assert (answer.status, answer.json) == (200, {"actor": ALICE, "presence": "online", "last_seen": None})
        many = (await post(node, {"actors": [BOB, ALICE, BOB]})).json["presence"]
        assert [(one["actor"], one["presence"]) for one in many] == [(BOB, "offline"), (ALICE, "online")]
    async with asyncio.timeout(10):
        while node.core.sessions.of_actor(ALICE):  # noqa: ASYNC110 - it says goodbye
            await asyncio.sleep(0)
    assert (await ask(node, "GET", f"/presence?id={ALICE}")).json["presence"] == "online"  # the time of grace


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_message"),
        ({"actors": []}, 400, "bad_message"),
        ({"actors": [f"ui/456/{number}" for number in range(1001)]}, 400, "bad_message"),
        ({"actors": [ALICE], "more": 1}, 400, "bad_message"),
        ({"actors": ["no actor"]}, 400, "bad_actor"),
        ({"actors": ["nowhere/x"]}, 400, "unknown_address"),
        ({"actors": ["ui/456"]}, 400, "unknown_address"),
        ({"actors": [ALICE], "actor": "ui/456"}, 400, "unknown_address"),
        ([], 400, "bad_message"),
    ],
)
async def test_what_cannot_be_asked(node: Node, body: Any, status: int, code: str) -> None:
    answer = await post(node, body)
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_a_thousand_at_once(node: Node) -> None:
    actors = [f"ui/456/{number}" for number in range(1000)]
    assert [one["actor"] for one in (await post(node, {"actors": actors})).json["presence"]] == actors


@pytest.mark.parametrize(
    ("token", "asker", "status"),
    [
        (None, None, 401),
        (None, SELF, 401),
        (MONITOR, None, 200),
        (ADMIN, None, 200),
        (NOBODY, None, 403),
        (NOBODY, ALICE, 403),
        (NOBODY, SELF, 403),  # it may be itself, and see nobody else without a rule
        ("not-a-token-0123456789", None, 401),
    ],
)
async def test_who_may_ask(guarded: Node, token: str | None, asker: str | None, status: int) -> None:
    body = {"actors": [BOB]} | ({"actor": asker} if asker else {})
    assert (await post(guarded, body, token)).status == status
    path = f"/presence?id={BOB}" + (f"&actor={asker}" if asker else "")
    assert (await ask(guarded, "GET", path, bearer(token) if token else {})).status == status


async def test_oneself(guarded: Node) -> None:
    async with connect(ws(guarded), actor=SELF, token=AUTH.tokens[2].token):
        answer = await post(guarded, {"actors": [SELF], "actor": SELF}, NOBODY)
        assert answer.json["presence"] == [{"actor": SELF, "presence": "online", "last_seen": None}]
