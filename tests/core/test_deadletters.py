"""Dead letters put again: what the message is then, and what its sender hears."""

from __future__ import annotations

import json

import pytest

from smart_router.core.deadletters import DeadLetters, again
from smart_router.core.endpoints import Endpoints
from smart_router.stores.base import DeadLetter, DeadLetterFilter
from tests.contracts.store import letter
from tests.fakes.bench import message, running, talking
from tests.fakes.clock import until

ALICE = "ui/456/alice"
TARGET = Endpoints(dict(talking(ttl=60).endpoints)).target(ALICE)


def of(rest: str, **changes: object) -> DeadLetter:
    plain = letter(1, sender="daemon/s", address=ALICE)
    body = f'{{"id":"{plain.id}","from":"daemon/s","at":1000,{rest}'.encode()
    return letter(1, **{"sender": "daemon/s", "address": ALICE, "body": body, **changes})


def test_id_sender_payload_and_attachments_stay_and_time_begins_anew() -> None:
    put = again(of('"ids":{},"payload":[1.00]}', attachments=(b"\x00",)), TARGET, 5_000_000)
    assert (put.id, put.sender, put.type, put.attachments) == ("id-000001", "daemon/s", "talk", (b"\x00",))
    assert (put.at, put.expires_at) == (5_000_000, 5_060_000)
    assert put.body == b'{"id":"id-000001","from":"daemon/s","at":1000,"redelivered":true,"ids":{},"payload":[1.00]}'


def test_options_hold_as_far_as_they_still_mean_something() -> None:
    options = '{"id":"k","ttl":1,"priority":9,"supersede":"s","receipt":["delivered","unheard"],"reply":3}'
    put = again(of(f'"ids":{{}},"options":{options}}}'), TARGET, 5_000_000)
    assert (put.key, put.priority, put.supersede, put.expires_at) == ("k", 9, "s", 5_060_000)
    assert put.wants > 0
    assert put.asker is None


def test_without_a_time_to_live_there_is_none() -> None:
    target = Endpoints(dict(talking(ttl=0).endpoints)).target(ALICE)
    assert again(of('"ids":{}}'), target, 5_000_000).expires_at == 0


def test_the_mark_is_set_once() -> None:
    once = again(of('"ids":{}}'), TARGET, 1).body
    assert again(of("", body=once), TARGET, 1).body == once
    assert json.loads(once)["redelivered"] is True


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"id":"other"}', b"[" * 5_000])
def test_a_body_of_another_form_goes_as_it_is(body: bytes) -> None:
    put = again(of("", body=body), TARGET, 1)
    assert (put.body, put.priority, put.key) == (body, 4, None)


async def test_its_sender_hears_of_the_new_delivery() -> None:
    async with running(talking()) as bench:
        sender = await bench.join("daemon/s")
        sender.tell("talk", {**message(1, to=ALICE), "options": {"receipt": ["delivered", "failed"]}})
        await until(lambda: bench.waiting(ALICE) == 1)
        await bench.broker.purge(ALICE)
        await bench.dead_letters(1)
        await until(lambda: len(sender.deliveries) == 1)
        letters = DeadLetters(bench.core)
        assert (await letters.replay(DeadLetterFilter(), 10, None, "root")).replayed == 1
        alice = await bench.join(ALICE)
        await until(lambda: alice.numbers == [1])
        alice.pong()
        await until(lambda: len(sender.deliveries) == 2)
        told = [(one.type, one.message["payload"]["status"]) for one in sender.deliveries]
        assert told == [("receipt", "dropped"), ("receipt", "delivered")]
        assert await bench.dead_letters() == []
