"""Cuts, restarts, tokens: what a client does when its connection ends."""

from __future__ import annotations

import asyncio
import json
import logging
from itertools import count
from random import Random

import pytest

from smart_router.client import ClientSettings, Closed, ProtocolError, Refused, World, connect
from smart_router.client.backoff import Backoff
from smart_router.protocols import plain
from smart_router.protocols.plain_close import delay_reason
from tests.client.peer import FAST, Pauses, Peer
from tests.client.test_client import ACTOR, opened


def options_id(send: plain.Send) -> str:
    options = json.loads(bytes(send.message))["options"]
    return str(options["id"])


async def test_what_has_no_answer_is_repeated_with_the_same_key_and_in_order(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    sending = [asyncio.create_task(client.send("talk", ids={}, payload=n)) for n in range(3)]
    await first.accept()
    lost = [await first.frame(plain.Send) for _ in range(2)]
    first.cut()
    second = await peer.next()
    await second.greet()
    repeated = [await second.accept() for _ in range(2)]
    assert [options_id(send) for send in repeated] == [options_id(send) for send in lost]
    assert [bytes(send.message) for send in repeated] == [bytes(send.message) for send in lost]
    assert [accepted.status for accepted in await asyncio.gather(*sending)] == ["queued"] * 3
    assert client.statistics().connections == 2
    await client.close()


async def test_what_is_sent_while_cut_off_waits(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    first.cut()
    second = await peer.next()
    sending = asyncio.create_task(client.send("talk", ids={}))
    await asyncio.sleep(0)
    assert client.statistics().outbox.unsent == 1
    await second.greet()
    await second.accept()
    await sending
    await client.close()


async def test_what_was_taken_is_dropped_when_it_comes_again(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    await first.deliver(1, "m1")
    await first.deliver(2, "m2")
    assert (await client.receive()).id == "m1"
    first.cut()
    second = await peer.next()
    await second.greet()
    await second.deliver(1, "m1", redelivered=True)
    await second.deliver(2, "m2", redelivered=True)
    await second.deliver(3, "m3")
    assert [(await client.receive()).id for _ in range(2)] == ["m2", "m3"]
    upto = 0
    while upto < 3:
        upto = (await second.frame(plain.Ack)).upto
    await client.close()


async def test_an_acknowledgement_given_while_cut_off_answers_the_repeat(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client, ack="client")
    await first.deliver(1, "m1", ack=True)
    message = await client.receive()
    first.cut()
    second = await peer.next()
    await second.greet(ack="client")
    message.ack()
    await second.deliver(7, "m1", ack=True, redelivered=True)
    await second.deliver(8, "m2", ack=True)
    assert (await client.receive()).id == "m2"
    assert await second.frame(plain.Ack) == plain.Ack(n=7)
    await client.close()


async def test_resumes_with_what_the_application_took(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client, pid="p1")
    first.cut()
    second = await peer.next()
    assert (await second.greet(pid="p1", recovered=True)).resume == plain.Resume("p1")
    await second.deliver(1, "m1", offset="o1")
    await second.deliver(2, "m2", offset="o2")
    await client.receive()
    second.cut()
    third = await peer.next()
    assert (await third.greet(pid="p2", recovered=False)).resume == plain.Resume("p1", "o1")
    third.cut()
    fourth = await peer.next()
    assert (await fourth.greet()).resume == plain.Resume("p2")
    fourth.cut()
    assert (await (await peer.next()).greet()).resume is None
    await client.close()


async def test_does_not_fight_for_a_session_that_was_taken_over(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client, pid="p1")
    await first.close(4409)
    assert (await (await peer.next()).greet()).resume is None
    await client.close()


async def test_may_be_opened_again_after_it_was_closed(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    for _ in range(2):
        conversation = await opened(peer, client)
        sending = asyncio.create_task(client.send("talk", ids={}))
        await conversation.accept()
        await sending
        await client.close()


async def test_comes_back_after_the_delay_of_a_restart(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    send = await first.frame(plain.Send)
    error = json.dumps({"error": Refused("shutting_down", "restarting").as_dict()}).encode()
    await first.write(plain.encode_answer(send.ref or 0, error))
    await first.close(1012, delay_reason(1.5))
    second = await peer.next()
    await second.greet()
    assert options_id(await second.accept()) == options_id(send)
    await sending
    assert pauses.taken == [1.5]
    await client.close()


@pytest.mark.parametrize(("code", "kind"), [(4403, Refused), (1002, ProtocolError)])
async def test_stays_away_when_told_so(peer: Peer, code: int, kind: type[Exception]) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    first = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    await first.frame(plain.Send)
    await first.close(code, "why")
    with pytest.raises(Closed) as caught:
        await sending
    assert isinstance(caught.value.__cause__, kind)
    with pytest.raises(Closed):
        await client.receive()
    await client.close()


async def test_an_actor_that_is_refused_does_not_come_back(peer: Peer) -> None:
    entering = asyncio.create_task(connect(peer.url, actor="nobody", settings=FAST).__aenter__())
    first = await peer.next()
    await first.frame(plain.Identify)
    await first.write(plain.encode_error(Refused("bad_actor", "agent/{sub}/{own}")))
    with pytest.raises(Refused) as caught:
        await entering
    assert caught.value.code == "bad_actor"


async def test_a_temporary_refusal_is_tried_again(peer: Peer, pauses: Pauses) -> None:
    entering = asyncio.create_task(connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world).__aenter__())
    first = await peer.next()
    await first.frame(plain.Identify)
    await first.write(plain.encode_error(Refused("broker_away", "later")))
    await (await peer.next()).greet()
    client = await entering
    assert len(pauses.taken) == 1
    await client.close()


async def test_a_fresh_token_for_each_connection_until_two_were_refused(peer: Peer, pauses: Pauses) -> None:
    numbers = count(1)
    client = connect(peer.url, actor=ACTOR, token=lambda: f"t{next(numbers)}", settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    await first.close(4401, "expired")
    second = await peer.next()
    assert (await second.greet()).token == "t2"
    await second.close(4401, "expired")
    for token in ("t3", "t4"):
        conversation = await peer.next()
        assert (await conversation.frame(plain.Identify)).token == token
        await conversation.close(4401, "no")
    with pytest.raises(Closed) as caught:
        await client.receive()
    assert isinstance(caught.value.__cause__, Refused)
    assert caught.value.__cause__.code == "unauthorized"


async def test_refreshes_before_the_token_expires(peer: Peer) -> None:
    async def token() -> str:
        return "fresh"

    client = connect(peer.url, actor=ACTOR, token=token, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.write(plain.encode_error(Refused("token_expiring", "30 s")))
    refresh = await conversation.frame(plain.Refresh)
    assert refresh.token == "fresh"
    await conversation.write(plain.encode_answer(refresh.ref or 0, b"{}"))
    await client.close()


async def test_the_application_refreshes_and_hears_a_refusal(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, token="old", settings=FAST, world=pauses.world)
    conversation = await opened(peer, client)
    for token, answer in (("bad", b'{"error":{"code":"unauthorized","message":"no"}}'), ("new", b"{}")):
        refreshing = asyncio.create_task(client.refresh(token))
        refresh = await conversation.frame(plain.Refresh)
        assert refresh.token == token
        await conversation.write(plain.encode_answer(refresh.ref or 0, answer))
        await asyncio.wait({refreshing})
        assert (refreshing.exception() is None) == (token == "new")
    conversation.cut()
    assert (await (await peer.next()).greet()).token == "new"
    await client.close()


async def test_a_token_source_that_fails_is_reported(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    tokens = iter(["first"])
    client = connect(peer.url, actor=ACTOR, token=lambda: next(tokens, None) or tokens_are_out(), settings=FAST)
    conversation = await opened(peer, client)
    await conversation.write(plain.encode_error(Refused("token_expiring", "30 s")))
    await conversation.deliver(1, "m1")
    await client.receive()
    await conversation.frame(plain.Ack)
    assert [record.levelno for record in caplog.records if "no new token" in record.message] == [logging.ERROR]
    await client.close()


def tokens_are_out() -> str:
    raise LookupError("the key server is away")


async def test_the_largest_unanswered_goes_when_the_server_finds_a_frame_too_large(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    small = asyncio.create_task(client.send("talk", ids={}))
    large = asyncio.create_task(client.send("talk", ids={}, payload="x" * 1_000))
    for _ in range(2):
        await first.frame(plain.Send)
    await first.close(1009)
    with pytest.raises(Refused, match="of this size"):
        await large
    second = await peer.next()
    await second.greet()
    await second.accept()
    await small
    await client.close()


async def test_a_send_that_came_too_early_for_a_server_that_forgot_us_goes_again(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    first = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    send = await first.frame(plain.Send)
    await first.write(plain.WhoAreYou(send.type, send.message, send.ref))
    second = await peer.next()
    await second.greet()
    await second.accept()
    await sending
    await client.close()


async def test_waits_for_a_server_that_is_away(free_port: int) -> None:
    waited = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waited.set()
        await asyncio.Event().wait()

    url = f"ws://127.0.0.1:{free_port}/ws"
    entering = asyncio.create_task(connect(url, actor=ACTOR, settings=FAST, world=World(sleep=sleep)).__aenter__())
    await waited.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering


async def test_a_url_that_cannot_be_right() -> None:
    with pytest.raises(ValueError, match="not the URL"):
        await connect("http://x", actor=ACTOR, settings=FAST).__aenter__()


async def test_close_gives_up_what_is_not_answered_in_time(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=ClientSettings(drain=0.01))
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    await conversation.frame(plain.Send)
    await client.close()
    with pytest.raises(Closed):
        await sending


def test_back_off_grows_is_random_and_begins_anew() -> None:
    backoff = Backoff(1.0, 10.0, Random(5))
    bounds = [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    waits = [backoff.next() for _ in bounds]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == len(waits)
    backoff.reset()
    assert backoff.next() <= 1.0
