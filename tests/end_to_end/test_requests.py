"""Receipts, requests and replies between the npm client and the Python client, over a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smart_router.client import Refused, connect
from tests.end_to_end.actors import Actors
from tests.end_to_end.conftest import APPS

__all__: list[str] = []

CONFIG = APPS / "requests.toml"


def job(to: str, payload: object, **options: object) -> dict[str, Any]:
    return {"ids": {"to": to}, "payload": payload, "options": options}


def socket_of(url: str) -> str:
    return url.replace("http", "ws", 1) + "/ws"


def test_a_request_between_socketio_clients(actors: Actors, url: str, unique: str) -> None:
    boss, worker = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"worker/{unique}")
    worker.do("answer", {"reply": {"done": True}})
    answer = boss.request("job", job(worker.id, 1, reply=5))
    assert answer == {"id": answer["id"], "status": "replied", "reply": {"done": True}, "from": worker.id}
    worker.do("answer", {"nack": "never"})
    refused = boss.request("job", job(worker.id, 2, reply=5))
    assert refused["error"]["code"] == "reply_refused"
    assert "failed (attempts)" in refused["error"]["message"]


def test_a_reply_by_event_and_one_too_late(actors: Actors, url: str, unique: str) -> None:
    boss, reader = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"reader/{unique}")
    number = boss.ask("job", job(reader.id, 1, reply=5))
    message = reader.receive("job")
    assert reader.request("reply", {"to": message["id"], "payload": "yes"}) == {}
    assert boss.answer(number)["reply"] == "yes"
    late = boss.request("job", job(reader.id, 2, reply=0.1))
    assert late["error"]["code"] == "reply_timeout"
    reader.emit("reply", {"to": reader.receive("job")["id"], "payload": "too late"})
    assert reader.receive("error")["code"] == "unknown_message"


def test_receipts_reach_an_actor_of_a_shared_mailbox(actors: Actors, url: str, unique: str) -> None:
    boss, reader = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"reader/{unique}")
    answer = boss.request("job", job(reader.id, 1, receipt=["queued", "delivered", "read"]))
    message = reader.receive("job")
    assert reader.request("read", {"id": message["id"]}) == {}
    receipts = [boss.receive("receipt") for _ in range(3)]
    assert [receipt["payload"]["status"] for receipt in receipts] == ["queued", "delivered", "read"]
    assert {receipt["payload"]["message"] for receipt in receipts} == {answer["id"]}
    assert {receipt["payload"]["to"] for receipt in receipts} == {reader.id}


async def test_the_python_client_asks_and_replies(url: str, unique: str) -> None:
    socket = socket_of(url)
    async with (
        connect(socket, actor=f"worker/{unique}") as worker,
        connect(socket, actor=f"reader/{unique}") as asker,
    ):
        for number in range(20):
            asking = asker.request(worker.actor, "job", number, timeout=5)
            asked, reply = await _both(asking, worker)
            assert reply.payload == asked + 1 == number + 1
            assert reply.sender == worker.actor
        with pytest.raises(Refused) as caught:
            await asker.request(f"worker/{unique}-nobody", "job", timeout=0.2)
        assert caught.value.code in ("reply_timeout", "reply_refused")


async def _both(asking: Any, worker: Any) -> tuple[Any, Any]:
    task = asyncio.ensure_future(asking)
    message = await worker.receive()
    await message.reply(message.payload + 1)
    return message.payload, await task


async def test_the_python_client_gets_receipts(url: str, unique: str) -> None:
    socket = socket_of(url)
    async with (
        connect(socket, actor=f"boss/{unique}") as boss,
        connect(socket, actor=f"reader/{unique}") as reader,
    ):
        options = {"receipt": ["delivered", "read", "failed"]}
        accepted = await boss.send("job", ids={"to": reader.actor}, payload=1, options=options)
        message = await reader.receive()
        await reader.mark_read(message)
        expired = await boss.send("job", ids={"to": f"reader/{unique}-nobody"}, options={**options, "ttl": 0.1})
        receipts = [(await boss.receive()).receipt for _ in range(3)]
        told = {(receipt.message, receipt.status) for receipt in receipts if receipt is not None}
        assert told == {(accepted.id, "delivered"), (accepted.id, "read"), (expired.id, "expired")}
