"""/mailboxes and /mailbox: looked into, purged, removed, one message moved; who may, and what is refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from smart_router.app import Node
from smart_router.brokers.base import Capability, Entry
from smart_router.client import connect
from smart_router.message import Message
from tests.api.nodes import ADMIN, MONITOR, NOBODY, Answer, ask, bearer
from tests.fakes.clock import until

__all__: list[str] = []

JSON = {"Content-Type": "application/json"}
ALICE, BOB = "ui/456/alice", "ui/456/bob"


def put(node: Node, *numbers: int, to: str = ALICE, **changes: Any) -> None:
    """Messages m-NUMBER with the number as payload."""
    now = node.core.clock.wall_ms()
    policy = node.core.endpoints.target(to).policy
    for number in numbers:
        head = f'{{"id":"m-{number}","from":"agent/456/bot","at":{now},'
        body = f'{head}"ids":{{}},"payload":{number}.0}}'.encode()
        plain = Message(f"m-{number}", "agent/456/bot", now, "talk", body)
        node.core.broker.put([Entry(replace(plain, **changes), to, policy)])


async def call(node: Node, method: str, path: str, token: str = "", **query: Any) -> Answer:
    whole = path + ("?" + urlencode(query) if query else "")
    return await ask(node, method, whole, bearer(token) if token else {})


async def requeue(node: Node, body: Any, token: str = "") -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(node, "POST", "/mailbox/requeue", {**JSON, **(bearer(token) if token else {})}, raw)


async def waiting(node: Node, address: str) -> list[str]:
    return [entry.message.id for entry in await node.core.broker.peek(address, 10_000)]


# looking


async def test_mailboxes_by_prefix_and_in_pages(node: Node) -> None:
    for number in range(25):
        put(node, number, to=f"ui/456/u{number:02}")
    put(node, 1, to="agent/456")
    seen: list[str] = []
    query: dict[str, Any] = {"prefix": "ui/", "limit": 10}
    while True:
        page = (await call(node, "GET", "/mailboxes", **query)).json
        seen += [box["address"] for box in page["mailboxes"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert seen == [f"ui/456/u{number:02}" for number in range(25)]
    assert (await call(node, "GET", "/mailboxes")).json["mailboxes"][0]["address"] == "agent/456"


async def test_one_mailbox(node: Node) -> None:
    put(node, 1, 2)
    answer = await call(node, "GET", "/mailbox", address=ALICE)
    assert answer.json == {
        "address": ALICE,
        "waiting": 2,
        "in_flight": 0,
        "bytes": answer.json["bytes"],
        "subscriptions": 0,
        "durable": True,
    }
    assert answer.json["bytes"] > 0


async def test_an_address_survives_both_ways_of_writing_its_slashes(node: Node) -> None:
    put(node, 1, to="ui/456/a+b@c:d~e")
    for written in (quote("ui/456/a+b@c:d~e", safe=""), "ui/456/a%2Bb@c:d~e"):
        answer = await ask(node, "GET", f"/mailbox?address={written}")
        assert (answer.status, answer.json["address"]) == (200, "ui/456/a+b@c:d~e")


async def test_what_waits_is_shown_in_pages_and_taken_by_nobody(node: Node) -> None:
    put(node, *range(25), priority=4, expires_at=node.core.clock.wall_ms() + 60_000)
    seen: list[str] = []
    query: dict[str, Any] = {"address": ALICE, "limit": 7}
    while True:
        page = (await call(node, "GET", "/mailbox/messages", **query)).json
        seen += [one["id"] for one in page["messages"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert seen == [f"m-{number}" for number in range(25)]
    assert page["mailbox"]["waiting"] == 25
    one = page["messages"][0]
    assert (one["from"], one["type"], one["priority"], one["attempts"], one["deliveries"]) == (
        "agent/456/bot",
        "talk",
        4,
        0,
        0,
    )
    assert one["size"] > 50
    assert one["expires_at"] > one["at"] > 0
    assert "message" not in one
    assert "attachments" not in one


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_small_pages_join_too(node: Node, limit: int) -> None:
    put(node, *range(5))
    seen: list[str] = []
    query: dict[str, Any] = {"address": ALICE, "limit": limit}
    for _ in range(10):
        page = (await call(node, "GET", "/mailbox/messages", **query)).json
        seen += [one["id"] for one in page["messages"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert seen == [f"m-{number}" for number in range(5)]


async def test_bodies_come_byte_by_byte_and_only_if_asked_for(node: Node) -> None:
    put(node, 1, attachments=(b"\x00\xff",))
    answer = await call(node, "GET", "/mailbox/messages", address=ALICE, bodies="true")
    (one,) = answer.json["messages"]
    assert (one["message"]["payload"], one["attachments"]) == (1.0, ["AP8="])
    assert b'"payload":1.0}' in answer.body


async def test_a_cursor_whose_message_has_gone_says_so(node: Node) -> None:
    put(node, *range(5))
    cursor = (await call(node, "GET", "/mailbox/messages", address=ALICE, limit=2)).json["cursor"]
    assert (await call(node, "GET", "/mailbox/messages", address=ALICE, limit=2, cursor=cursor)).status == 200
    await node.core.broker.purge(ALICE)
    put(node, *range(10, 15))
    for wrong in (cursor, "x", ""):
        answer = await call(node, "GET", "/mailbox/messages", address=ALICE, cursor=wrong)
        assert (answer.status, answer.json["code"]) == (400, "bad_cursor")
    put(node, 1, to=BOB)
    assert (await call(node, "GET", "/mailbox/messages", address=BOB, cursor=cursor)).json["code"] == "bad_cursor"
    assert (await call(node, "GET", "/mailboxes", cursor=cursor)).json["code"] == "bad_cursor"


# changing


async def test_purged_messages_are_dead_letters(node: Node) -> None:
    put(node, *range(3))
    with capture_logs() as logged:
        assert (await call(node, "DELETE", "/mailbox/messages", address=ALICE)).json == {"purged": 3}
    await until(lambda: node.core.store.statistics().dead_letters == 3)
    assert await waiting(node, ALICE) == []
    (entry,) = [one for one in logged if one["event"] == "mailbox_purged"]
    assert (entry["address"], entry["purged"]) == (ALICE, 3)


async def test_a_mailbox_is_removed_and_what_waited_is_a_dead_letter(node: Node) -> None:
    put(node, 1)
    with capture_logs() as logged:
        assert (await call(node, "DELETE", "/mailbox", address=ALICE)).json == {"address": ALICE}
    await until(lambda: node.core.store.statistics().dead_letters == 1)
    assert (await call(node, "GET", "/mailbox", address=ALICE)).status == 404
    assert [one["address"] for one in logged if one["event"] == "mailbox_deleted"] == [ALICE]
    assert (await call(node, "DELETE", "/mailbox", address=ALICE)).status == 404


async def test_a_mailbox_that_a_session_reads_is_not_removed(node: Node) -> None:
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor=ALICE):
        answer = await call(node, "DELETE", "/mailbox", address=ALICE)
        assert (answer.status, answer.json["code"], answer.json["address"]) == (409, "in_use", ALICE)
        assert (await call(node, "GET", "/mailbox", address=ALICE)).json["subscriptions"] == 1


async def test_one_message_goes_to_another_mailbox_or_to_the_end_of_its_own(node: Node) -> None:
    put(node, 1, 2, 3)
    with capture_logs() as logged:
        assert (await requeue(node, {"address": ALICE, "id": "m-1", "to": BOB})).json == {"id": "m-1", "address": BOB}
    assert (await waiting(node, ALICE), await waiting(node, BOB)) == (["m-2", "m-3"], ["m-1"])
    assert (await requeue(node, {"address": ALICE, "id": "m-2"})).status == 200
    assert await waiting(node, ALICE) == ["m-3", "m-2"]
    (entry,) = [one for one in logged if one["event"] == "message_requeued"]
    assert (entry["message_id"], entry["address"], entry["to"]) == ("m-1", ALICE, BOB)


async def test_what_a_broker_does_not_offer_is_said_by_its_name(node: Node) -> None:
    put(node, 1)
    node.core.broker.capabilities = frozenset(Capability) - {Capability.REQUEUE_ONE, Capability.PEEK_HELD}
    answer = await requeue(node, {"address": ALICE, "id": "m-1", "to": BOB})
    assert (answer.status, answer.json["code"], answer.json["broker"]) == (501, "unsupported", "embedded")
    assert (await call(node, "GET", "/mailbox/messages", address=ALICE)).status == 200
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor=ALICE):
        answer = await call(node, "GET", "/mailbox/messages", address=ALICE)
        assert (answer.status, answer.json["code"], answer.json["broker"]) == (501, "unsupported", "embedded")


# what is refused


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/mailbox"),
        ("GET", "/mailbox/messages"),
        ("DELETE", "/mailbox/messages"),
        ("DELETE", "/mailbox"),
    ],
)
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad_message"),
        ("address=", 400, "bad_message"),
        ("adress=ui/456/alice", 400, "bad_message"),
        ("address=ui/456/alice&address=ui/456/bob", 400, "bad_message"),
        ("address=" + "x" * 401, 400, "bad_message"),
        ("address=ui/456/a%00", 400, "bad_address"),
        ("address=*", 400, "bad_address"),
        ("address=ui/456/%2E%2E/x", 400, "bad_address"),
        ("address=ui%20456", 400, "bad_address"),
        ("address=ui/456/nobody", 404, "not_found"),
        ("address=unknown", 404, "not_found"),
    ],
)
async def test_addresses_that_are_none(node: Node, method: str, path: str, query: str, status: int, code: str) -> None:
    put(node, 1)
    answer = await ask(node, method, f"{path}?{query}")
    assert (answer.status, answer.json["code"]) == (status, code)
    assert await waiting(node, ALICE) == ["m-1"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/mailboxes", "limit=0"),
        ("/mailboxes", "limit=1e9"),
        ("/mailboxes", "prefix=" + "x" * 401),
        ("/mailboxes", "address=ui"),
        ("/mailbox/messages", f"address={ALICE}&limit=1001"),
        ("/mailbox/messages", f"address={ALICE}&bodies=maybe"),
        ("/mailbox/messages", f"address={ALICE}&bodies=true&limit=101"),
    ],
)
async def test_queries_that_make_no_sense(node: Node, path: str, query: str) -> None:
    put(node, 1)
    answer = await ask(node, "GET", f"{path}?{query}")
    assert (answer.status, answer.json["code"]) == (400, "bad_message")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_message"),
        ({"address": ALICE}, 400, "bad_message"),
        ({"address": ALICE, "id": ""}, 400, "bad_message"),
        ({"address": ALICE, "id": "m-1", "too": BOB}, 400, "bad_message"),
        ({"address": ALICE, "id": 1}, 400, "bad_message"),
        (b"[", 400, "bad_message"),
        ({"address": ALICE, "id": "m-9"}, 404, "not_found"),
        ({"address": BOB, "id": "m-1"}, 404, "not_found"),
        ({"address": ALICE, "id": "m-1", "to": "nobody/x"}, 400, "unknown_address"),
        ({"address": ALICE, "id": "m-1", "to": "ui/456"}, 400, "no_mailbox"),
        ({"address": ALICE, "id": "m-1", "to": "a b"}, 400, "bad_address"),
    ],
    ids=str,
)
async def test_moves_that_make_no_sense(node: Node, body: Any, status: int, code: str) -> None:
    put(node, 1)
    answer = await requeue(node, body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert await waiting(node, ALICE) == ["m-1"]


async def test_who_may(guarded: Node) -> None:
    put(guarded, 1, 2)
    at = {"address": ALICE}
    for token, status in [(ADMIN, 200), (MONITOR, 200), (NOBODY, 403), ("", 401)]:
        assert (await call(guarded, "GET", "/mailboxes", token)).status == status
        assert (await call(guarded, "GET", "/mailbox", token, **at)).status == status
        assert (await call(guarded, "GET", "/mailbox/messages", token, **at)).status == status
    for token, status in [(MONITOR, 403), (NOBODY, 403), ("", 401)]:
        assert (await call(guarded, "GET", "/mailbox/messages", token, bodies="true", **at)).status == status
        assert (await call(guarded, "DELETE", "/mailbox/messages", token, **at)).status == status
        assert (await call(guarded, "DELETE", "/mailbox", token, **at)).status == status
        assert (await requeue(guarded, {"address": ALICE, "id": "m-1"}, token)).status == status
    assert await waiting(guarded, ALICE) == ["m-1", "m-2"]
    assert (await call(guarded, "GET", "/mailbox/messages", ADMIN, bodies="true", **at)).status == 200
    with capture_logs() as logged:
        assert (await requeue(guarded, {"address": ALICE, "id": "m-1"}, ADMIN)).status == 200
        assert (await call(guarded, "DELETE", "/mailbox/messages", ADMIN, **at)).status == 200
        assert (await call(guarded, "DELETE", "/mailbox", ADMIN, **at)).status == 200
    changed = [(one["event"], one["by"]) for one in logged if "by" in one]
    assert changed == [("message_requeued", "root"), ("mailbox_purged", "root"), ("mailbox_deleted", "root")]
