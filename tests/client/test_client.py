"""Send, receive and confirm on one connection."""

from __future__ import annotations

import asyncio
import json

import pytest

from smart_router.client import Binary, Client, ClientSettings, Closed, ProtocolError, Refused, connect
from smart_router.protocols import plain
from tests.client.peer import FAST, Conversation, Pauses, Peer, queued

ACTOR = "agent/456/alice"


async def opened(peer: Peer, client: Client, **hello: object) -> Conversation:
    """The client inside its `async with`, and the router's side of its connection."""
    entering = asyncio.create_task(client.__aenter__())
    conversation = await peer.next()
    await conversation.greet(**hello)
    await entering
    return conversation


async def test_identifies_offers_the_subprotocol_and_says_goodbye(peer: Peer) -> None:
    async def script() -> plain.Identify:
        conversation = await peer.next()
        assert conversation.connection.subprotocol == plain.SUBPROTOCOL
        identify = await conversation.greet()
        assert await conversation.goodbye() == 1000
        return identify

    router = asyncio.create_task(script())
    async with connect(peer.url, actor=ACTOR, token="secret", settings=FAST) as client:
        assert client.statistics().connected
    assert await router == plain.Identify(ACTOR, "secret", acks=True)
    with pytest.raises(Closed):
        await client.send("talk", ids={})
    with pytest.raises(Closed):
        await client.receive()


async def test_send_returns_the_answer(peer: Peer, pauses: Pauses) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST, world=pauses.world)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(
        client.send("talk", ids={"ui": "ui/456/u1"}, payload={"text": "é"}, metadata={"x": 1})
    )
    send = await conversation.accept()
    message = json.loads(bytes(send.message))
    assert send.type == "talk"
    assert len(message.pop("options")["id"]) == 32
    assert message == {"ids": {"ui": "ui/456/u1"}, "payload": {"text": "é"}, "metadata": {"x": 1}}
    assert await sending == ("m1", "queued")
    await client.close()


async def test_the_applications_own_options_go_along(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}, options={"id": "mine", "ttl": 5}))
    send = await conversation.accept()
    assert json.loads(bytes(send.message)) == {"ids": {}, "options": {"id": "mine", "ttl": 5}}
    await sending
    await client.close()


async def test_a_refusal_is_raised_with_the_routers_words(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    send = await conversation.frame(plain.Send)
    error = {"code": "mailbox_full", "message": "full", "temporary": True, "address": "ui/1"}
    answer = {"id": "m1", "error": error, "refused": ["ui/1"]}
    await conversation.write(plain.encode_answer(send.ref or 0, json.dumps(answer).encode()))
    with pytest.raises(Refused) as caught:
        await sending
    assert caught.value.code == "mailbox_full"
    assert caught.value.temporary
    assert caught.value.details == {"address": "ui/1", "id": "m1", "refused": ["ui/1"]}
    await client.close()


async def test_a_code_of_a_later_router_is_kept(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    send = await conversation.frame(plain.Send)
    await conversation.write(plain.encode_answer(send.ref or 0, b'{"error":{"code":"brand_new","message":"x"}}'))
    with pytest.raises(Refused) as caught:
        await sending
    assert caught.value.code == "brand_new"
    await client.close()


async def test_what_is_taken_is_confirmed_in_one_ack(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    for n in (1, 2, 3):
        await conversation.deliver(n, f"m{n}", payload={"n": n})
    first = await client.receive()
    assert (first.id, first.sender, first.at, first.type, first.ids) == ("m1", "ui/456/u1", 1, "talk", {})
    assert (first.payload, first.metadata, first.redelivered) == ({"n": 1}, None, False)
    assert first.payload_as(dict[str, int]) == {"n": 1}
    assert (await conversation.frame(plain.Ack)).upto == 1
    await client.receive()
    await client.receive()
    upto = 0
    while upto < 3:
        upto = (await conversation.frame(plain.Ack)).upto
    await client.close()


async def test_what_was_taken_last_is_confirmed_before_the_goodbye(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.deliver(1, "m1")
    await client.receive()
    await client.close()
    assert await conversation.frame(plain.Ack) == plain.Ack(upto=1)
    assert await conversation.goodbye() == 1000


async def test_repeats_are_dropped_and_confirmed(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.deliver(1, "m1", options={"id": "k"})
    await conversation.deliver(2, "m2", options={"id": "k"})  # the sender's repeat, past the router's memory
    await conversation.deliver(3, "m2.1", options={"id": "k"})  # the action's second publish: another message
    await conversation.deliver(4, "m3")
    await conversation.deliver(5, "m3", redelivered=True)
    await conversation.deliver(6, "m3", type="other")
    taken = [await client.receive() for _ in range(4)]
    assert [(message.id, message.type) for message in taken] == [
        ("m1", "talk"),
        ("m2.1", "talk"),
        ("m3", "talk"),
        ("m3", "other"),
    ]
    assert client.statistics().inbox.repeats == 2
    upto = 0
    while upto < 6:
        upto = (await conversation.frame(plain.Ack)).upto
    await client.close()


async def test_the_application_acknowledges_each(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client, ack="client")
    for n in (1, 2, 3):
        await conversation.deliver(n, f"m{n}", ack=True)
    first, second, third = [await client.receive() for _ in range(3)]
    third.ack()
    first.nack("not now")
    first.ack()  # a second answer changes nothing
    assert await conversation.frame(plain.Ack) == plain.Ack(n=3)
    assert await conversation.frame(plain.Nack) == plain.Nack(1, "not now")
    await conversation.deliver(4, "m3", ack=True, redelivered=True)  # its acknowledgement was lost: not shown again
    await conversation.deliver(5, "m1", ack=True, redelivered=True)  # refused before: shown again
    again = await client.receive()
    assert (again.id, again.redelivered) == ("m1", True)
    assert await conversation.frame(plain.Ack) == plain.Ack(n=4)
    second.ack()
    assert await conversation.frame(plain.Ack) == plain.Ack(n=2)
    await client.close()


async def test_nothing_to_refuse_where_nobody_waits_for_it(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.deliver(1, "m1")
    message = await client.receive()
    message.ack()
    with pytest.raises(ValueError, match="does not wait"):
        message.nack("no")
    await client.close()


async def test_binary_travels_beside_the_payload(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("photo", ids={}, payload=[Binary(b"\x00\xff"), {"b": Binary(b"2")}]))
    send = await conversation.accept()
    await sending
    assert send.attachments == (b"\x00\xff", b"2")
    await conversation.write(plain.encode_deliver(1, "photo", bytes(send.message), attachments=send.attachments))
    message = await client.receive()
    assert message.payload == [b"\x00\xff", {"b": b"2"}]
    await client.close()


async def test_what_json_cannot_hold_is_the_callers_error(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    await opened(peer, client)
    with pytest.raises(TypeError, match="Binary"):
        await client.send("talk", ids={}, payload=object())
    await client.close()


async def test_the_queue_is_bounded(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=ClientSettings(queue_messages=2, queue_bytes=4_000, drain=2))
    conversation = await opened(peer, client)
    with pytest.raises(Refused, match="wait to be sent"):
        await client.send("talk", ids={}, payload="x" * 4_000)
    sending = [asyncio.create_task(client.send("talk", ids={})) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Refused) as caught:
        await client.send("talk", ids={})
    assert caught.value.code == "busy"
    for _ in sending:
        await conversation.accept()
    await asyncio.gather(*sending)
    assert client.statistics().outbox == (0, 0, 0)
    await client.close()


async def test_a_cancelled_send_leaves_the_queue(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    send = await conversation.frame(plain.Send)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await conversation.write(plain.encode_answer(send.ref or 0, queued("late")))
    await client.close()
    assert await conversation.goodbye() == 1000


async def test_a_frame_over_the_servers_limit_is_refused_here(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client, limit=500)
    with pytest.raises(Refused) as caught:
        await client.send("talk", ids={}, payload="x" * 500)
    assert (caught.value.code, caught.value.details) == ("too_large", {"limit": 500})
    client.post("note", ids={}, payload="y" * 500)
    client.post("note", ids={})
    assert (await conversation.frame(plain.Send)).ref is None
    await client.close()


async def test_errors_of_nobody_go_to_on_error(peer: Peer) -> None:
    heard: asyncio.Queue[Refused] = asyncio.Queue()
    client = connect(peer.url, actor=ACTOR, settings=FAST, on_error=heard.put_nowait)
    conversation = await opened(peer, client)
    client.post("talk", ids={})
    await conversation.frame(plain.Send)
    await conversation.write(plain.encode_error(Refused("no_route", "no route for talk", type="talk")))
    error = await heard.get()
    assert (error.code, error.details) == ("no_route", {"type": "talk"})
    await client.close()


async def test_iteration_ends_with_the_client(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    await conversation.deliver(1, "m1")
    taken = []
    async for message in client:
        taken.append(message.id)
        await client.close()
    assert taken == ["m1"]


async def test_a_server_that_breaks_the_protocol_ends_the_client(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=FAST)
    conversation = await opened(peer, client)
    sending = asyncio.create_task(client.send("talk", ids={}))
    await conversation.frame(plain.Send)
    await conversation.write(b'{"op":"deliver"}')
    with pytest.raises(Closed) as caught:
        await sending
    assert isinstance(caught.value.__cause__, ProtocolError)
    with pytest.raises(Closed):
        async for _ in client:
            pass


async def test_a_full_inbox_stops_reading(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR, settings=ClientSettings(inbox_messages=2, drain=2))
    conversation = await opened(peer, client)
    for n in range(1, 6):
        await conversation.deliver(n, f"m{n}")
    assert [(await client.receive()).id for _ in range(5)] == ["m1", "m2", "m3", "m4", "m5"]
    await client.close()


async def test_a_client_must_be_opened(peer: Peer) -> None:
    client = connect(peer.url, actor=ACTOR)
    with pytest.raises(Closed, match="async with"):
        await client.receive()
    with pytest.raises(Closed, match="async with"):
        client.post("talk", ids={})
    await client.close()
