"""/dead-letters: listed, looked at, put again, forgotten; who may, and what is refused."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from smart_router.app import Node
from smart_router.brokers.base import End, Entry
from smart_router.client import connect
from smart_router.message import Message
from smart_router.stores.base import DeadLetter, DeadLetterFilter
from tests.api.nodes import ADMIN, MONITOR, NOBODY, Answer, ask, bearer
from tests.contracts.store import letter
from tests.fakes.clock import until

__all__: list[str] = []

JSON = {"Content-Type": "application/json"}
ALICE = "ui/456/alice"
EVERYTHING = DeadLetterFilter()


def of(number: int, **changes: Any) -> DeadLetter:
    """As a router would have kept it, for ui/456/alice."""
    plain = letter(number, address=ALICE, sender="agent/456/bot")
    body = f'{{"id":"{plain.id}","from":"agent/456/bot","at":1000,"ids":{{}},"payload":{number}}}'
    return letter(number, **{"address": ALICE, "sender": "agent/456/bot", "body": body.encode(), **changes})


async def keep(node: Node, *letters: DeadLetter) -> None:
    await node.core.store.add_dead_letters(letters)


async def kept(node: Node) -> list[str]:
    return [one.id for one in await node.core.store.dead_letters(EVERYTHING, limit=10_000)]


async def listed(node: Node, token: str = "", **query: Any) -> Answer:
    path = "/dead-letters" + ("?" + urlencode(query) if query else "")
    return await ask(node, "GET", path, bearer(token) if token else {})


async def post(node: Node, what: str, body: Any, token: str = "", headers: dict[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(
        node, "POST", f"/dead-letters/{what}", {**JSON, **(bearer(token) if token else {}), **(headers or {})}, raw
    )


def waiting(node: Node, address: str = ALICE) -> int:
    box = node.core.broker.statistics_of(address)  # type: ignore[attr-defined]
    return box.waiting if box is not None else 0


# the list


async def test_the_list_has_everything_but_the_bodies(node: Node) -> None:
    await keep(node, of(1, attachments=(b"\x00" * 100,)))
    answer = await listed(node)
    assert answer.status == 200
    (one,) = answer.json["dead_letters"]
    assert one.pop("size") == 100 + len(of(1).body)
    assert one == {
        "id": "id-000001",
        "address": ALICE,
        "type": "talk",
        "sender": "agent/456/bot",
        "state": "failed",
        "reason": "attempts",
        "at": 1000,
        "ended_at": 10_001,
        "attempts": 3,
        "deliveries": 4,
        "detail": "refused by the recipient",
        "attachments": 1,
    }
    assert (answer.json["cursor"], answer.json["missing_nodes"]) == (None, [])


async def test_pages_join_without_gap_oldest_end_first(node: Node) -> None:
    letters = [of(number, ended_at=10_000 + number // 3) for number in range(250)]
    await keep(node, *letters[::-1])
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 120}
    while True:
        page = (await listed(node, **query)).json
        seen += [one["id"] for one in page["dead_letters"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    assert seen == [one.id for one in letters]
    assert len((await listed(node, limit=250)).json["dead_letters"]) == 250


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"address": "ui/456/bob"}, [1]),
        ({"sender": "agent/456/other"}, [2]),
        ({"state": "expired"}, [3]),
        ({"reason": "ttl"}, [3]),
        ({"type": "log"}, [4]),
        ({"id": "id-000002"}, [2]),
        ({"since": 10_003}, [3, 4]),
        ({"until": 10_001}, [0, 1]),
        ({"since": 10_001, "until": 10_003, "address": ALICE}, [2, 3]),
        ({"address": "ui/456/bob", "type": "log"}, []),
    ],
    ids=str,
)
async def test_filters_hold_together(node: Node, query: dict[str, Any], numbers: list[int]) -> None:
    await keep(
        node,
        of(0),
        of(1, address="ui/456/bob"),
        of(2, sender="agent/456/other"),
        of(3, state="expired", reason="ttl"),
        of(4, type="log"),
    )
    found = (await listed(node, **query)).json["dead_letters"]
    assert [one["id"] for one in found] == [of(number).id for number in numbers]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "adress=ui/456/alice",
        "state=lost",
        "since=-1",
        "until=99999999999999999999",
        "address=",
        "address=" + "x" * 500,
        "id=" + "x" * 600,
    ],
)
async def test_queries_that_make_no_sense(node: Node, query: str) -> None:
    answer = await ask(node, "GET", "/dead-letters?" + query)
    assert (answer.status, answer.json["code"]) == (400, "bad_message")
    assert "x" * 20 not in answer.json["detail"]


async def test_a_cursor_of_anything_else_is_refused(node: Node) -> None:
    await keep(node, *[of(number) for number in range(5)])
    cursor = (await listed(node, limit=2)).json["cursor"]
    later = cursor[:-3] + ("A" if cursor[-3] != "A" else "B") + cursor[-2:]
    others = ["", "x", "…", "AAAA", cursor + "AAAA", cursor[:-4], later, b64encode(b"\xc1" * 30).decode(), "A" * 5000]
    for wrong in others:
        answer = await listed(node, cursor=wrong)
        assert (answer.status, answer.json["code"]) == (400, "bad_cursor"), wrong
    answer = await listed(node, cursor=cursor, state="failed")
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")
    assert (await listed(node, cursor=cursor, limit=5)).status == 200


# one


async def test_one_is_shown_whole_for_each_recipient(node: Node) -> None:
    body = b'{"id":"id-000001","from":"agent/456/bot","at":1000,"ids":{},"payload":[1.0,12345678901234567890]}'
    await keep(node, of(1, body=body, attachments=(b"\x00\xff", b"")), of(1, address="ui/456/bob"), of(2))
    answer = await ask(node, "GET", "/dead-letters/id-000001")
    assert answer.status == 200
    first, second = answer.json["dead_letters"]
    assert (first["address"], second["address"]) == (ALICE, "ui/456/bob")
    assert (first["message"]["payload"], first["attachments"]) == ([1.0, 12345678901234567890], ["AP8=", ""])
    assert body in answer.body


async def test_a_body_that_is_no_json_comes_as_base64(node: Node) -> None:
    await keep(node, of(1, body=b'{"id":"\xff"}'), of(2, body=b"{"))
    assert (await ask(node, "GET", "/dead-letters/id-000001")).json["dead_letters"][0]["message"] == "eyJpZCI6Iv8ifQ=="
    assert (await ask(node, "GET", "/dead-letters/id-000002")).json["dead_letters"][0]["message"] == "ew=="


@pytest.mark.parametrize("id_", ["id-9", "%00", "x" * 2000])
async def test_one_that_is_not_there(node: Node, id_: str) -> None:
    answer = await ask(node, "GET", f"/dead-letters/{id_}")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


# again


async def test_a_purged_message_is_put_again_and_arrives_as_what_it_was(node: Node) -> None:
    core = node.core
    now = core.clock.wall_ms()
    body = (
        b'{"id":"m-1","from":"agent/456/bot","at":%d,"ids":{},"options":{"priority":7,"id":"k"},"payload":"hi"}' % now
    )
    policy = core.endpoints.target(ALICE).policy
    core.broker.put([Entry(Message("m-1", "agent/456/bot", now, "talk", body), ALICE, policy)])
    assert await core.broker.purge(ALICE) == 1
    await until(lambda: core.store.statistics().dead_letters == 1)
    with capture_logs() as logged:
        answer = await post(node, "replay", {"keys": [{"id": "m-1", "address": ALICE, "type": "talk"}]})
    assert answer.status == 200
    assert answer.json == {"replayed": 1, "failed": 0, "refused": [], "missing_nodes": []}
    assert await kept(node) == []
    (waits,) = await core.broker.peek(ALICE)
    assert (waits.message.id, waits.message.priority, waits.message.key) == ("m-1", 7, "k")
    day = 24 * 3600 * 1000
    assert 0 <= waits.message.expires_at - now - day < 60_000
    host, port = node.addresses[0]
    async with connect(f"ws://{host}:{port}/ws", actor=ALICE) as alice:
        message = await asyncio.wait_for(alice.receive(), 5)
    assert (message.id, message.sender, message.payload, message.redelivered) == ("m-1", "agent/456/bot", "hi", True)
    (entry,) = [one for one in logged if one["event"] == "dead_letters_replayed"]
    assert (entry["replayed"], entry["refused"], entry["keys"][0]["id"]) == (1, 0, "m-1")


async def test_by_filter_the_oldest_and_no_more_than_the_limit(node: Node) -> None:
    await keep(node, *[of(number) for number in range(230)], of(500, reason="ttl"))
    answer = await post(node, "replay", {"where": {"reason": "attempts"}, "limit": 220})
    assert answer.json["replayed"] == 220
    assert await kept(node) == [of(number).id for number in [*range(220, 230), 500]]
    assert waiting(node) == 220
    assert [one.message.id for one in await node.core.broker.peek(ALICE, 300)] == [of(n).id for n in range(220)]


async def test_what_is_refused_stays_and_says_why(node: Node) -> None:
    await keep(node, of(1), of(2, address="nobody/x"), of(3, address="agent", reason="route_error"))
    answer = await post(node, "replay", {"where": {}, "all": True})
    assert (answer.json["replayed"], answer.json["failed"]) == (1, 2)
    assert [(one["id"], one["code"]) for one in answer.json["refused"]] == [
        ("id-000002", "unknown_address"),
        ("id-000003", "no_mailbox"),
    ]
    assert "`to`" in answer.json["refused"][1]["message"]
    assert await kept(node) == ["id-000002", "id-000003"]


async def test_what_had_no_mailbox_goes_where_one_says(node: Node) -> None:
    await keep(node, of(3, address="ui/456", reason="route_error"))
    answer = await post(node, "replay", {"keys": [{"id": "id-000003"}], "to": ALICE})
    assert (answer.json["replayed"], await kept(node), waiting(node)) == (1, [], 1)


class Refuser:
    """A recipient whose deliveries end badly at once."""

    def __init__(self, node: Node) -> None:
        self._ends = node.core.ends

    def deliver(self, entry: Entry) -> None:
        self._ends.end(entry, End.FAILED, "attempts", "again")


async def test_those_that_end_badly_again_at_once_are_dead_letters_again(node: Node) -> None:
    """The new end has the same key as the old one, which is taken out of the store after the put."""
    core = node.core
    letters = [of(number) for number in range(300)]
    await keep(node, *letters)
    subscription = await core.broker.subscribe(ALICE, core.endpoints.target(ALICE).policy, Refuser(node))
    subscription.grant(10_000)
    for _ in range(3):
        answer = await post(node, "replay", {"where": {}, "all": True, "limit": 1000})
        assert answer.json["replayed"] == 300
        await until(lambda: core.ends.statistics().queued == 0)
        again = await core.store.dead_letters(EVERYTHING, limit=1000)
        assert sorted(one.id for one in again) == [one.id for one in letters]
        assert {(one.detail, one.body.count(b'"redelivered":true')) for one in again} == {("again", 1)}
        assert core.broker.statistics().waiting == core.broker.statistics().in_flight == 0


async def test_two_replays_at_the_same_time_put_it_once(node: Node) -> None:
    await keep(node, *[of(number) for number in range(50)])
    bodies = [{"where": {}, "all": True}] * 4
    answers = [one.json for one in await asyncio.gather(*[post(node, "replay", body) for body in bodies])]
    assert sum(one["replayed"] for one in answers) == 50 == waiting(node)
    assert await kept(node) == []
    assert not any(one["refused"] for one in answers)


async def test_a_node_that_goes_down_replays_nothing(node: Node) -> None:
    await keep(node, of(1))
    node.core.router.draining = True
    answer = await post(node, "replay", {"keys": [{"id": "id-000001"}]})
    assert [one["code"] for one in answer.json["refused"]] == ["shutting_down"]
    assert await kept(node) == ["id-000001"]


# forgotten


async def test_purged_by_key_by_filter_and_all(node: Node) -> None:
    await keep(node, *[of(number) for number in range(300)], of(1, address="ui/456/bob"), of(400, reason="ttl"))
    with capture_logs() as logged:
        assert (await post(node, "purge", {"keys": [{"id": of(1).id}]})).json == {"purged": 2, "missing_nodes": []}
        assert (await post(node, "purge", {"where": {"reason": "ttl"}})).json["purged"] == 1
        assert (await post(node, "purge", {"where": {}, "all": True})).json["purged"] == 299
    assert await kept(node) == []
    assert [one["purged"] for one in logged if one["event"] == "dead_letters_purged"] == [2, 1, 299]


# what is refused


@pytest.mark.parametrize("what", ["replay", "purge"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"where": {}},
        {"keys": []},
        {"keys": [{"id": "a"}], "where": {"id": "a"}},
        {"keys": [{}]},
        {"keys": [{"id": 5}]},
        {"keys": [{"id": "a", "adress": "b"}]},
        {"keys": [{"id": "a"}] * 101},
        {"where": {"adress": "b"}},
        {"where": {"state": "lost"}},
        {"where": {"since": "x"}},
        {"where": {}, "all": "yes"},
        {"everything": True},
        [],
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 5_000,
    ],
    ids=lambda body: repr(body)[:40],
)
async def test_what_makes_no_sense_changes_nothing(node: Node, what: str, body: Any) -> None:
    await keep(node, of(1))
    answer = await post(node, what, body)
    assert (answer.status, answer.json["code"]) == (400, "bad_message")
    assert (await kept(node), waiting(node)) == (["id-000001"], 0)


@pytest.mark.parametrize(
    ("limit", "to"), [(0, None), (1001, None), (1, "a b"), (1, "nobody/x"), (1, "ui/456"), (1, "")]
)
async def test_replays_to_nowhere(node: Node, limit: int, to: str | None) -> None:
    await keep(node, of(1))
    answer = await post(node, "replay", {"keys": [{"id": "id-000001"}], "limit": limit, "to": to})
    assert answer.status == 400
    assert (await kept(node), waiting(node)) == (["id-000001"], 0)


@pytest.mark.parametrize("what", ["replay", "purge"])
async def test_what_is_not_there(node: Node, what: str) -> None:
    answer = await post(node, what, {"keys": [{"id": "nobody"}]})
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert (await post(node, what, {"where": {"id": "nobody"}})).status == 200


@pytest.mark.parametrize("what", ["replay", "purge"])
async def test_only_json_and_only_from_our_own_pages(node: Node, what: str) -> None:
    await keep(node, of(1))
    body = {"where": {}, "all": True}
    form = await post(node, what, body, headers={"Content-Type": "text/plain"})
    assert (form.status, form.json["code"]) == (415, "unsupported")
    foreign = await post(node, what, body, headers={"Origin": "http://evil.example"})
    assert (foreign.status, foreign.json["code"]) == (403, "forbidden")
    assert await kept(node) == ["id-000001"]


async def test_who_may(guarded: Node) -> None:
    await keep(guarded, of(1))
    body = {"where": {}, "all": True}
    assert [(await listed(guarded, token)).status for token in (ADMIN, MONITOR, NOBODY, "")] == [200, 200, 403, 401]
    for token, status in [(MONITOR, 403), (NOBODY, 403), ("", 401)]:
        headers = bearer(token) if token else {}
        assert (await ask(guarded, "GET", "/dead-letters/id-000001", headers)).status == status
        assert (await post(guarded, "replay", body, token)).status == status
        assert (await post(guarded, "purge", body, token)).status == status
    assert await kept(guarded) == ["id-000001"]
    assert (await ask(guarded, "GET", "/dead-letters/id-000001", bearer(ADMIN))).status == 200
    with capture_logs() as logged:
        assert (await post(guarded, "purge", body, ADMIN)).status == 200
    assert [one["by"] for one in logged if one["event"] == "dead_letters_purged"] == ["root"]
