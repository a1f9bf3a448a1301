"""POST /messages: routed like any message, answered when safe; repeats, rules, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from smart_router.api import messages
from smart_router.app import Node, SmartRouter
from smart_router.client import connect
from smart_router.config.load import endpoint_settings
from smart_router.config.schema import AuthSettings, Settings
from smart_router.core.access import Identity, token_hash
from smart_router.core.actions import Context
from smart_router.core.senders import Senders
from smart_router.errors import Refused
from smart_router.stores.base import DeadLetterFilter
from tests.api.nodes import ADMIN, AUTH, MONITOR, NOBODY, Answer, ask, bearer, running, settings_of
from tests.fakes.clock import until

__all__: list[str] = []

ALICE, BOT = "ui/456/alice", "agent/456/bot"
JSON = {"Content-Type": "application/json"}


def routes() -> SmartRouter:
    app = SmartRouter()

    @app.any.on("talk")
    def talk(ctx: Context) -> None:
        ctx.publish(ctx.message.ids["agent"])

    @app.any.on("slow")
    async def slow(ctx: Context) -> None:
        await asyncio.sleep(0)
        ctx.publish(ctx.message.ids["agent"])

    @app.any.on("stuck")
    async def stuck(ctx: Context) -> None:
        await asyncio.Event().wait()

    @app.any.on("fail")
    def fail(ctx: Context) -> None:
        raise RuntimeError(ctx.type)

    return app


def with_endpoint(settings: Settings, pattern: str, **policies: Any) -> Settings:
    return replace(settings, endpoints={**settings.endpoints, "ui": endpoint_settings(pattern, **policies)})


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(settings_of(tmp_path / "data"), routes()) as node:
        yield node


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(settings_of(tmp_path / "data", AUTH), routes()) as node:
        yield node


def message(payload: Any = "hi", to: str = BOT, **more: Any) -> dict[str, Any]:
    return {"ids": {"agent": to}, "payload": payload, **more}


async def send(node: Node, body: Any, token: str = "", **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask(node, "POST", "/messages", {**JSON, **(bearer(token) if token else {}), **named}, raw)


async def say(node: Node, actor: str = ALICE, type_: str = "talk", **more: Any) -> Answer:
    return await send(node, {"actor": actor, "type": type_, "message": message(**more)})


async def waiting(node: Node, address: str = BOT) -> list[str]:
    return [entry.message.id for entry in await node.core.broker.peek(address, 1000)]


# the way of a message


@pytest.mark.parametrize("type_", ["talk", "slow"])
async def test_it_is_routed_like_any_and_arrives_byte_by_byte(node: Node, type_: str) -> None:
    own = b'{"payload": [1.00, 12345678901234567890],"own":"\\u00e9", "ids":{"agent":"agent/456/bot"}}'
    body = b'{"actor":"ui/456/alice","type":"%b","message":%b}' % (type_.encode(), own)
    answer = await send(node, body)
    assert (answer.status, answer.headers["content-type"]) == (202, "application/json")
    assert answer.json == {"id": answer.json["id"], "status": "queued"}
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor=BOT) as bot:
        got = await asyncio.wait_for(bot.receive(), 5)
    assert (got.id, got.sender, got.type, got.redelivered) == (answer.json["id"], ALICE, type_, False)
    assert got.raw.endswith(own[1:])
    assert got.at > 0


async def test_what_a_sender_says_of_itself_is_overwritten(node: Node) -> None:
    forged: dict[str, Any] = {"id": "forged", "at": 1, "from": "agent/456/root", "redelivered": True}
    await say(node, **forged)
    (entry,) = await node.core.broker.peek(BOT)
    told = json.loads(entry.message.body)
    assert (told["from"], told["id"]) == (ALICE, entry.message.id) != ("agent/456/root", "forged")
    assert "redelivered" not in told


async def test_attachments_go_with_their_placeholders(node: Node) -> None:
    payload = {"file": {"_placeholder": True, "num": 1}}
    answer = await send(
        node, {"actor": ALICE, "type": "talk", "message": message(payload), "attachments": ["AA==", "AP8="]}
    )
    assert answer.status == 202
    (entry,) = await node.core.broker.peek(BOT)
    assert entry.message.attachments == (b"\x00\xff",)
    assert json.loads(entry.message.body)["payload"] == {"file": {"_placeholder": True, "num": 0}}


async def test_the_sender_gets_no_session_and_keeps_its_own(node: Node) -> None:
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor=ALICE) as alice:
        await say(node)
        assert len(node.core.sessions) == 1
        await alice.send("talk", ids={"agent": BOT})
    assert len(await waiting(node)) == 2


# repeats


async def test_a_repeat_is_routed_once_and_answered_as_the_first(node: Node) -> None:
    answers = [await say(node, options={"id": "k1"}) for _ in range(3)]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert {answer.status for answer in answers} == {202}
    assert await waiting(node) == [answers[0].json["id"]]
    assert (await say(node, actor="ui/456/bob", options={"id": "k1"})).json["id"] != answers[0].json["id"]


async def test_repeats_at_the_same_time_are_routed_once(node: Node) -> None:
    answers = await asyncio.gather(*[say(node, type_="slow", options={"id": "k1"}) for _ in range(8)])
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(await waiting(node)) == 1


async def test_the_header_stands_for_an_id_that_is_not_there(node: Node) -> None:
    plain = {"actor": ALICE, "type": "talk", "message": message(options={"priority": 7})}
    first = await send(node, plain, Idempotency_Key="k2")
    assert (await send(node, plain, Idempotency_Key='"k2"')).json == first.json
    assert (await say(node, options={"id": "k2"})).json == first.json
    own = {"actor": ALICE, "type": "talk", "message": message(options={"id": "k3"})}
    other = await send(node, own, Idempotency_Key="k2")
    assert other.json["id"] != first.json["id"]
    one, two = sorted(await node.core.broker.peek(BOT), key=lambda entry: entry.message.key or "")
    assert (one.message.key, one.message.priority, two.message.key) == ("k2", 7, "k3")


@pytest.mark.parametrize("key", ["", '""', "x" * 65, "a\tb", "é"])
async def test_headers_that_are_no_key(node: Node, key: str) -> None:
    answer = await send(node, {"actor": ALICE, "type": "talk", "message": message()}, Idempotency_Key=key)
    assert (answer.status, answer.json["code"]) == (400, "bad_message")
    assert await waiting(node) == []


# requests


async def test_with_options_reply_the_answer_is_the_recipients(node: Node) -> None:
    asking = asyncio.ensure_future(say(node, options={"reply": 10, "id": "k1"}))
    await until(lambda: node.core.broker.statistics().waiting == 1)
    again = asyncio.ensure_future(say(node, options={"reply": 10, "id": "k1"}))
    await until(lambda: node.core.feedback.replies.statistics().open == 2)
    (entry,) = await node.core.broker.peek(BOT)
    assert node.core.feedback.replies.reply(entry.message, BOT, b'{"ok":1.0}') is None
    answer = await asking
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"id": entry.message.id, "status": "replied", "reply": {"ok": 1.0}, "from": BOT}
    assert b'{"ok":1.0}' in answer.body
    assert (await again).json == answer.json


async def test_a_reply_that_does_not_come_is_a_timeout(node: Node) -> None:
    answer = await say(node, options={"reply": 0.05})
    assert (answer.status, answer.json["code"]) == (504, "reply_timeout")
    assert await waiting(node) == [answer.json["id"]]


async def test_a_recipient_that_is_gone_for_good_is_said_at_once(node: Node) -> None:
    asking = asyncio.ensure_future(say(node, options={"reply": 60}))
    await until(lambda: node.core.broker.statistics().waiting == 1)
    await node.core.broker.purge(BOT)
    assert ((await asking).status, (await asking).json["code"]) == (502, "reply_refused")


async def test_a_route_that_takes_too_long_is_cut_and_its_message_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_WAIT", 0.05)
    answer = await say(node, type_="stuck")
    assert (answer.status, answer.json["code"]) == (400, "route_error")
    await until(lambda: node.core.store.statistics().dead_letters == 1)
    (kept,) = await node.core.store.dead_letters(DeadLetterFilter())
    assert (kept.id, kept.sender, kept.reason) == (answer.json["id"], ALICE, "route_error")


# what is refused


@pytest.mark.parametrize(
    ("actor", "status", "code"),
    [
        ("alice", 400, "bad_actor"),
        ("ui/456/", 400, "bad_actor"),
        ("ui/456/a b", 400, "bad_actor"),
        ("ui/456/\ud800", 400, "bad_actor"),
        ("ui/456", 400, "unknown_address"),
        ("ui/999/alice", 400, "unknown_address"),
        ("nobody/alice", 400, "unknown_address"),
        ("ui/456/alice/x", 400, "unknown_address"),
        ("", 400, "bad_message"),
        ("x" * 401, 400, "bad_message"),
    ],
)
async def test_actors_that_are_none(node: Node, actor: str, status: int, code: str) -> None:
    answer = await say(node, actor=actor)
    assert (answer.status, answer.json["code"]) in [(status, code), (400, "bad_message")]
    assert await waiting(node) == []


@pytest.mark.parametrize(
    ("type_", "more", "status", "code"),
    [
        ("unheard-of", {}, 400, "no_route"),
        ("fail", {}, 400, "route_error"),
        ("talk", {"to": "a b"}, 400, "bad_address"),
        ("talk", {"to": "nobody/x"}, 400, "unknown_address"),
        ("talk", {"to": "ui/456"}, 400, "no_mailbox"),
        ("talk", {"payload": "x" * 70_000}, 413, "too_large"),
        ("talk", {"options": {"id": ""}}, 400, "bad_message"),
        ("talk", {"options": {"ttl": -1}}, 400, "bad_message"),
        ("talk", {"options": {"unheard": 1}}, 400, "bad_message"),
        ("talk", {"ids": []}, 400, "bad_message"),
    ],
)
async def test_errors_are_those_of_a_connection(
    node: Node, type_: str, more: dict[str, Any], status: int, code: str
) -> None:
    body = {"actor": ALICE, "type": type_, "message": {**message(), **more}}
    if "to" in more:
        body["message"] = message(to=more["to"])
    answer = await send(node, body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert await waiting(node) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        b'{"actor":"ui/456/alice","type":"talk","message":{"ids":{},"payload":"\xff"}}',
        b'{"actor":"ui/456/alice","type":"talk","message":' + b"[" * 100 + b"]" * 100 + b"}",
        {"type": "talk", "message": message()},
        {"actor": ALICE, "message": message()},
        {"actor": ALICE, "type": "talk"},
        {"actor": ALICE, "type": "", "message": message()},
        {"actor": ALICE, "type": "x" * 513, "message": message()},
        {"actor": ALICE, "type": "talk", "message": "text"},
        {"actor": ALICE, "type": "talk", "message": []},
        {"actor": ALICE, "type": "talk", "message": {"payload": 1}},
        {"actor": ALICE, "type": "talk", "message": message(), "more": 1},
        {"actor": ALICE, "type": "talk", "message": message(), "attachments": ["*"]},
        {"actor": ALICE, "type": "talk", "message": message(), "attachments": [""] * 11},
        {"actor": ALICE, "type": "talk", "message": message({"_placeholder": True, "num": 0})},
        {"actor": ALICE, "type": "talk", "message": message({"_placeholder": True, "num": 1}), "attachments": [""]},
    ],
    ids=lambda body: repr(body)[:60],
)
async def test_what_makes_no_sense_reaches_nobody(node: Node, body: Any) -> None:
    for headers in ({}, {"Idempotency_Key": "k"}):
        answer = await send(node, body, **headers)
        assert (answer.status, answer.json["code"]) == (400, "bad_message")
        assert ALICE not in answer.json["detail"]
    assert await waiting(node) == []


async def test_a_refused_message_may_be_tried_again_with_its_id(node: Node) -> None:
    assert (await say(node, to="nobody/x", options={"id": "k"})).status == 400
    assert (await say(node, options={"id": "k"})).status == 202


async def test_only_json_only_from_our_own_pages_and_not_without_end(node: Node) -> None:
    body = {"actor": ALICE, "type": "talk", "message": message()}
    form = await send(node, body, Content_Type="text/plain")
    assert (form.status, form.json["code"]) == (415, "unsupported")
    foreign = await send(node, body, Origin="http://evil.example")
    assert (foreign.status, foreign.json["code"]) == (403, "forbidden")
    assert (await send(node, b" " * 1_100_000)).status == 413
    assert await waiting(node) == []


async def test_a_node_that_goes_down_takes_none(node: Node) -> None:
    node.core.router.draining = True
    answer = await say(node)
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "shutting_down", "1")


async def test_the_rate_of_an_actor_holds_from_request_to_request(tmp_path: Path) -> None:
    settings = with_endpoint(settings_of(tmp_path / "data"), "ui/{id}", sub_endpoints=["456"], messages_per_second=2.0)
    async with running(settings, routes()) as node:
        statuses = [(await say(node)).status for _ in range(8)]
        assert (statuses[0], 429 in statuses) == (202, True)
        assert (await say(node, actor="ui/456/bob")).status == 202


# who may


@pytest.mark.parametrize(
    ("token", "actor", "status"),
    [
        (NOBODY, "ui/456/nobody", 202),
        (NOBODY, ALICE, 403),
        (ADMIN, "ui/456/nobody", 403),
        (MONITOR, "ui/456/watcher", 202),
        ("", "ui/456/nobody", 401),
        ("made-up-token-0123456789", "ui/456/nobody", 401),
    ],
)
async def test_a_token_sends_as_the_actors_that_it_could_connect_as(
    guarded: Node, token: str, actor: str, status: int
) -> None:
    answer = await send(guarded, {"actor": actor, "type": "talk", "message": message()}, token)
    assert answer.status == status
    assert len(await waiting(guarded)) == (status == 202)


async def test_a_revoked_token_sends_nothing_more(guarded: Node) -> None:
    body = {"actor": "ui/456/nobody", "type": "talk", "message": message()}
    assert (await send(guarded, body, NOBODY)).status == 202
    await guarded.core.revocations.revoke(subject="ui/456/nobody", jti=None)
    answer = await send(guarded, body, NOBODY)
    assert (answer.status, answer.json["code"]) == (401, "revoked")


async def test_the_rules_for_publishing_hold_for_each_token(tmp_path: Path) -> None:
    tokens = [*AUTH.tokens, replace(AUTH.tokens[2], token="writer-token-0123456789", scope="write")]
    settings = with_endpoint(
        settings_of(tmp_path / "data", AuthSettings(tokens=tokens)),
        "ui/{id}",
        sub_endpoints=["456"],
        access={"publish": '"write" in scopes && address.startsWith("agent/")'},
    )
    async with running(settings, routes()) as node:
        body = {"actor": "ui/456/nobody", "type": "talk", "message": message()}
        for token, status in [(NOBODY, 403), ("writer-token-0123456789", 202), (NOBODY, 403)]:
            answer = await send(node, body, token)
            assert answer.status == status
        assert len(await waiting(node)) == 1


async def test_senders_are_kept_in_bounds(node: Node) -> None:
    senders = Senders(node.core)
    nobody = Identity("", {}, frozenset(), token_hash(None))
    first = senders.session("ui/456/u0", nobody)
    for number in range(10_001):
        senders.session(f"ui/456/u{number}", nobody)
    assert len(senders) == 10_000
    assert senders.session("ui/456/u1", nobody).id != senders.session("ui/456/u2", nobody).id, "limits go by it"
    assert senders.session("ui/456/u10000", nobody) is senders.session("ui/456/u10000", nobody)
    assert senders.session("ui/456/u0", nobody) is not first
    with pytest.raises(Refused):
        senders.session("ui/456", nobody)
