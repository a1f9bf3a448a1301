"""Requests, replies, receipts and read marks of the Python client, against a scripted router."""

from __future__ import annotations

import asyncio
import json

import pytest

from smart_router.client import Binary, Receipt, Refused, Reply, connect
from smart_router.protocols import plain
from tests.client.peer import FAST, Conversation, Pauses, Peer
from tests.client.test_client import ACTOR, opened

ERROR = {"code": "unknown_message", "message": "nobody waits", "temporary": False}


async def answer(conversation: Conversation, kind: type[plain.Send | plain.Reply | plain.Read], told: object) -> str:
    """Takes the client's next frame and answers it; what it was, as JSON."""
    frame = await conversation.frame(kind)
    assert frame.ref is not None
    await conversation.write(plain.encode_answer(frame.ref, json.dumps(told).encode()))
    return plain.encode(frame).decode()


async def test_a_request_returns_the_reply(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    asking = asyncio.create_task(client.request("ui/456/u1", "ask", {"q": 1}, timeout=7))
    told = {"id": "m1", "status": "replied", "reply": {"a": 2}, "from": "ui/456/u1"}
    sent = json.loads(await answer(conversation, plain.Send, told))["message"]
    assert sent["ids"] == {"to": "ui/456/u1"}
    assert sent["payload"] == {"q": 1}
    assert len(sent["options"].pop("id")) == 32
    assert sent["options"] == {"reply": 7, "ttl": 7}
    assert await asking == Reply({"a": 2}, "ui/456/u1", "m1")
    await client.close()


async def test_a_request_that_gets_no_reply(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    asking = asyncio.create_task(client.request({"ui": "ui/456/u1"}, "ask", options={"ttl": 60}))
    error = {"code": "reply_timeout", "message": "none came", "temporary": True}
    sent = json.loads(await answer(conversation, plain.Send, {"id": "m1", "error": error}))["message"]
    assert sent["ids"] == {"ui": "ui/456/u1"}
    assert sent["options"]["ttl"] == 60
    with pytest.raises(Refused, match="none came") as caught:
        await asking
    assert (caught.value.code, caught.value.details) == ("reply_timeout", {"id": "m1"})
    await client.close()


async def test_a_router_that_says_nothing_is_not_waited_for(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    await opened(peer, client)
    with pytest.raises(Refused) as caught:
        await client.request("ui/456/u1", "ask", timeout=0.01)
    assert caught.value.code == "reply_timeout"
    await client.close()


async def test_after_a_cut_the_request_is_asked_again(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    conversation = await opened(peer, client)
    asking = asyncio.create_task(client.request("ui/456/u1", "ask"))
    first = await conversation.frame(plain.Send)
    conversation.cut()
    conversation = await peer.next()
    await conversation.greet()
    told = {"id": "m1", "status": "replied", "reply": None, "from": "ui/456/u1"}
    assert json.loads(await answer(conversation, plain.Send, told))["message"] == json.loads(bytes(first.message))
    assert await asking == Reply(None, "ui/456/u1", "m1")
    await client.close()


async def test_a_reply_acknowledges_too(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client, ack="client")
    await conversation.deliver(1, "m1", ack=True)
    replying = asyncio.create_task((await client.receive()).reply({"text": "ž"}))
    sent = json.loads(await answer(conversation, plain.Reply, {}))
    assert (sent["to"], sent["payload"]) == ("m1", {"text": "ž"})
    await replying
    assert await conversation.frame(plain.Ack) == plain.Ack(n=1)
    await client.close()


async def test_a_late_reply_is_refused_and_the_message_is_the_applications(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client, ack="client")
    await conversation.deliver(1, "m1", ack=True)
    message = await client.receive()
    with pytest.raises(TypeError):
        await message.reply(Binary(b"x"))
    replying = asyncio.create_task(message.reply())
    await answer(conversation, plain.Reply, {"error": ERROR})
    with pytest.raises(Refused, match="nobody waits"):
        await replying
    message.nack("late")
    assert await conversation.frame(plain.Nack) == plain.Nack(1, "late")
    await client.close()


async def test_marks_as_read_after_it_has_confirmed(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.deliver(1, "m1")
    message = await client.receive()
    marking = asyncio.create_task(client.mark_read(message))
    assert await conversation.frame(plain.Ack) == plain.Ack(upto=1)
    assert '"id":"m1"' in await answer(conversation, plain.Read, {})
    await marking
    again = asyncio.create_task(client.mark_read("m0"))
    await answer(conversation, plain.Read, {"error": ERROR})
    with pytest.raises(Refused):
        await again
    await client.close()


async def test_a_receipt_is_a_message_of_the_router(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    payload = {"message": "m0", "to": "ui/456/u1", "status": "expired", "reason": "ttl", "at": 5}
    await conversation.deliver(1, "m1", "receipt", **{"from": "router", "payload": payload})
    await conversation.deliver(2, "m2", "receipt", payload="of somebody's own")
    assert (await client.receive()).receipt == Receipt("m0", "ui/456/u1", "expired", "ttl", 5)
    assert (await client.receive()).receipt is None
    await client.close()
