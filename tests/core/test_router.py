"""From a sender's event to the mailboxes: what the router adds, what it leaves alone, what it answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from smart_router.app import SmartRouter
from smart_router.core.actions import Context
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE, BOB, SENDER = "ui/456/alice", "ui/456/bob", "daemon/s"


def app() -> SmartRouter:
    app = talking()
    app.endpoint("small", max_messages=1, overflow="refuse")

    @app.any.on("twice")
    def twice(context: Context) -> None:
        for _ in range(3):
            context.publish(ALICE)
        context.publish(ALICE, "other")
        context.publish(BOB)
        context.publish([BOB, ALICE], "other")

    @app.any.on("changed")
    def changed(context: Context) -> None:
        context.publish(ALICE, "talk", {"payload": [context.message.payload], "from": "forged", "own": 1})

    @app.any.on("nothing")
    def nothing(context: Context) -> None:
        pass

    @app.any.on("half")
    def half(context: Context) -> None:
        context.publish(ALICE)
        raise ValueError("a secret")

    return app


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(app()) as bench:
        yield bench


@pytest.fixture
async def alice(bench: Bench) -> Client:
    return await bench.join(ALICE)


@pytest.fixture
async def sender(bench: Bench) -> Client:
    return await bench.join(SENDER)


# the router's own keys


async def test_what_the_router_adds(bench: Bench, alice: Client, sender: Client) -> None:
    answer = await sender.asked("talk", {"ids": {"to": ALICE}, "metadata": {"a": 1}, "payload": "hello", "more": 2})
    [got] = alice.deliveries
    assert list(got.message) == ["id", "from", "at", "ids", "metadata", "payload", "more"]
    assert got.message["from"] == SENDER
    assert got.message["at"] == bench.clock.wall
    assert answer == {"id": got.message["id"], "status": "queued"}
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", got.message["id"])


async def test_ids_grow(alice: Client, sender: Client) -> None:
    for number in range(5000):
        sender.tell("talk", message(number, to=ALICE))
        if number % 100 == 0:
            alice.pong()
    alice.pong()
    ids = [got.message["id"] for got in alice.deliveries]
    assert ids == sorted(set(ids))


FORGED = [
    b'{"id":"mine","ids":{"to":"ui/456/alice"},"payload":1}',
    b'{"ids":{"to":"ui/456/alice"},"from":"ui/456/bob","payload":1}',
    b'{"ids":{"to":"ui/456/alice"},"payload":1,"at":0}',
    b'{"redelivered":true,"ids":{"to":"ui/456/alice"},"payload":1}',
    b'{"ids":{"to":"ui/456/alice"},"fr\\u006fm":"ui/456/bob","payload":1}',
    b'{"\\u0069d":"mine","ids":{"to":"ui/456/alice"},"payload":1}',
    b'{"ids":{"to":"ui/456/alice"},"r\\u0065delivered":true,"payload":1}',
    b'{"ids":{"to":"ui/456/alice"},"payload":1,"\\u0061t":7,"at":8,"from":"x","from":"y"}',
    b' \t\n{ "from" : "ui/456/bob" , "ids" : {"to":"ui/456/alice"},"payload":1}',
]


@pytest.mark.parametrize("raw", FORGED)
async def test_a_senders_claims_are_overwritten(bench: Bench, alice: Client, sender: Client, raw: bytes) -> None:
    answer = await sender.asked("talk", raw)
    [got] = alice.deliveries
    assert got.message["id"] == answer["id"]
    assert (got.message["from"], got.message["at"], got.n) == (SENDER, bench.clock.wall, 1)
    assert "redelivered" not in got.message
    assert b"bob" not in got.body
    assert b"mine" not in got.body


async def test_white_space_around_a_message(alice: Client, sender: Client) -> None:
    await sender.asked("talk", b' \r\n\t{ "ids": {"to": "ui/456/alice"}, "payload": 1 } \n')
    assert alice.numbers == [1]


UNTOUCHED = [
    rb'"payload":{"a":1.0,"b":1e5,"c":"\u00e4\ud83d\ude00","d":[1, 2 ],"e":null,"a":2}',
    b'"payload":12345678901234567890123456789.000',
    rb'"a\"b":[true,false],"payload":"\/"',
    '"ümlaut":"ß","payload":""'.encode(),
]


@pytest.mark.parametrize("rest", UNTOUCHED)
@pytest.mark.parametrize("forged", [b"", b'"from":"x",'])
async def test_the_rest_travels_byte_for_byte(alice: Client, sender: Client, rest: bytes, forged: bytes) -> None:
    await sender.asked("talk", b'{%b"ids":{"to":"ui/456/alice"},%b}' % (forged, rest))
    values = rest.partition(b'"payload":')[2]
    assert alice.deliveries[0].body.endswith(b'"payload":' + values + b"}")
    if not forged:
        assert alice.deliveries[0].body.endswith(rest + b"}")


async def test_metadata_and_payload_may_be_missing(alice: Client, sender: Client) -> None:
    await sender.asked("talk", {"ids": {"to": ALICE}})
    assert list(alice.deliveries[0].message) == ["id", "from", "at", "ids"]


async def test_attachments_travel(bench: Bench, sender: Client) -> None:
    placeholder = {"_placeholder": True, "num": 0}
    sender.tell("talk", message(placeholder, to=ALICE), attachments=(b"\x00\xff",))
    alice = await bench.join(ALICE)
    assert alice.deliveries[0].attachments == (b"\x00\xff",)
    assert alice.numbers == [placeholder]


# publishing


async def test_all_of_one_action_carries_one_id_repeats_a_suffix(bench: Bench, alice: Client, sender: Client) -> None:
    bob = await bench.join(BOB)
    own = (await sender.asked("twice", message()))["id"]
    seen = [(got.type, got.message["id"]) for got in alice.deliveries]
    assert seen == [("twice", own), ("twice", own + ".1"), ("twice", own + ".2"), ("other", own), ("other", own + ".1")]
    assert [(got.type, got.message["id"]) for got in bob.deliveries] == [("twice", own), ("other", own)]


async def test_another_message(alice: Client, sender: Client) -> None:
    await sender.asked("changed", message(7))
    [got] = alice.deliveries
    assert (got.type, got.message["from"], got.n, got.message["own"]) == ("talk", SENDER, [7], 1)
    assert got.message["ids"] == {}


async def test_a_route_that_publishes_nothing_is_acknowledged(sender: Client) -> None:
    answer = await sender.asked("nothing", message())
    assert answer["status"] == "queued"


async def test_to_many(bench: Bench, alice: Client, sender: Client) -> None:
    bob = await bench.join(BOB)
    answer = await sender.asked("talk", message(1, to=[ALICE, BOB, "ui/456/away"]))
    assert answer["status"] == "queued"
    assert alice.deliveries[0].body == bob.deliveries[0].body
    assert bench.waiting("ui/456/away") == 1


async def test_all_or_nothing_of_what_an_action_publishes(bench: Bench, sender: Client) -> None:
    answer = await sender.asked("talk", message(1, to=[ALICE, "nobody/x"]))
    assert answer["error"]["code"] == "unknown_address"
    assert bench.waiting(ALICE) == 0


async def test_what_some_mailboxes_refuse(bench: Bench, sender: Client) -> None:
    first = await sender.asked("talk", message(1, to="small/x"))
    assert first["status"] == "queued"
    answer = await sender.asked("talk", message(2, to=[ALICE, "small/x"]))
    assert set(answer) == {"id", "error", "refused"}
    assert answer["refused"] == ["small/x"]
    assert (answer["error"]["code"], answer["error"]["temporary"]) == ("mailbox_full", True)
    assert bench.waiting(ALICE) == 1
    assert not sender.errors


async def test_a_refusal_without_acknowledgement_is_an_error(bench: Bench, sender: Client) -> None:
    sender.tell("talk", message(1, to="small/x"))
    sender.tell("talk", message(2, to="small/x"))
    [error] = sender.errors
    assert (error["code"], error["address"]) == ("mailbox_full", "small/x")
    assert error["id"]


async def test_a_route_that_raises(bench: Bench, alice: Client, sender: Client) -> None:
    answer = await sender.asked("half", {"ids": {}, "payload": "kept", "from": "forged"})
    assert answer["error"]["code"] == "route_error"
    assert "secret" not in str(answer)
    assert not alice.deliveries
    [letter] = await bench.dead_letters(1)
    assert (letter.id, letter.type, letter.sender) == (answer["error"]["id"], "half", SENDER)
    assert (letter.state, letter.reason, letter.address) == ("failed", "route_error", "daemon")
    assert letter.body.startswith(b'{"id":"%b","from":"daemon/s","at":' % letter.id.encode())
    assert b'"payload":"kept"' in letter.body
    assert b"forged" not in letter.body
    [entry] = bench.health.check()
    assert (entry.level, "ValueError" in entry.message, "secret" in entry.message) == ("error", True, False)
    assert bench.router.statistics().route_errors == 1
    assert (await sender.asked("talk", message(1, to=ALICE)))["status"] == "queued"


async def test_statistics(alice: Client, sender: Client) -> None:
    await sender.asked("talk", message(1, to=[ALICE, BOB]))
    await sender.asked("unknown", message())
    statistics = sender.bench.router.statistics()
    assert (statistics.received, statistics.published, statistics.refused, statistics.no_route) == (2, 2, 1, 1)


# dedup


def keyed(payload: Any, key: str = "k", **ids: Any) -> dict[str, Any]:
    return {**message(payload, **ids), "options": {"id": key}}


async def test_a_repeat_gets_the_first_answer_and_is_not_routed(alice: Client, sender: Client) -> None:
    first = await sender.asked("talk", keyed(1, to=ALICE))
    again = await sender.asked("talk", keyed(2, to=ALICE))
    other = await sender.asked("talk", keyed(3, "other", to=ALICE))
    assert again == first
    assert other != first
    assert alice.numbers == [1, 3]
    assert alice.deliveries[0].message["options"] == {"id": "k"}
    assert sender.bench.router.statistics().repeats == 1


async def test_a_key_is_its_senders_own(bench: Bench, alice: Client, sender: Client) -> None:
    await sender.asked("talk", keyed(1, to=ALICE))
    other = await bench.join("daemon/t")
    await other.asked("talk", keyed(2, to=ALICE))
    assert alice.numbers == [1, 2]


async def test_the_window_is_two_minutes(bench: Bench, alice: Client, sender: Client) -> None:
    await sender.asked("talk", keyed(1, to=ALICE))
    bench.pass_time(119, step=30)
    await sender.asked("talk", keyed(2, to=ALICE))
    bench.pass_time(2)
    await sender.asked("talk", keyed(3, to=ALICE))
    alice.pong()
    assert alice.numbers == [1, 3]


@pytest.mark.parametrize(
    "wrong", [("talk", message(0, to="nobody/x")), ("unknown", message(0)), ("half", message(0))], ids=lambda w: w[0]
)
async def test_what_was_refused_may_be_tried_again(alice: Client, sender: Client, wrong: tuple[str, Any]) -> None:
    type_, body = wrong
    refused = await sender.asked(type_, {**body, "options": {"id": "k"}})
    assert "error" in refused
    await sender.asked("talk", keyed(1, to=ALICE))
    assert alice.numbers == [1]


async def test_what_a_full_mailbox_refused_may_be_tried_again(bench: Bench, sender: Client) -> None:
    await sender.asked("talk", message(1, to="small/x"))
    assert "refused" in await sender.asked("talk", keyed(2, to="small/x"))
    small = await bench.join("small/x")
    small.pong()
    assert (await sender.asked("talk", keyed(3, to="small/x")))["status"] == "queued"
    assert small.numbers == [1, 3]


async def test_a_repeat_after_nothing_was_published_is_routed_again(sender: Client) -> None:
    first = await sender.asked("nothing", keyed(1))
    assert (await sender.asked("nothing", keyed(1)))["status"] == first["status"]


async def test_across_a_restart(tmp_path: Any) -> None:
    async with running(app(), tmp_path) as bench:
        sender = await bench.join(SENDER)
        first = await sender.asked("talk", keyed(1, to=ALICE))
        bench.clock.advance(30)
        next_bench = await bench.again()
    sender = await next_bench.join(SENDER)
    assert await sender.asked("talk", keyed(2, to=ALICE)) == first
    alice = await next_bench.join(ALICE)
    await until(lambda: alice.deliveries)
    assert alice.numbers == [1]
    assert alice.deliveries[0].message["redelivered"] is True
    await next_bench.close()


async def test_a_repeat_waits_while_the_first_is_on_its_way(tmp_path: Any) -> None:
    async with running(app(), tmp_path) as bench:
        sender = await bench.join(SENDER)
        first, again = [sender.send("talk", keyed(n, to=ALICE)) for n in (1, 2)]
        sender.tell("talk", keyed(3, to=ALICE))
        assert not sender.answers
        await until(lambda: again in sender.answers)
        assert sender.answers[first] == sender.answers[again]
        assert bench.waiting(ALICE) == 1
