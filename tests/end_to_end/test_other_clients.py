"""Actors of every kind talk to each other: python-socketio, a raw WebSocket on the plain protocol, the npm client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio
from websockets.asyncio.client import ClientConnection, connect

from tests.end_to_end.actors import Actors

__all__: list[str] = []

DEADLINE = 10


class PythonActor:
    """python-socketio's asyncio client on one namespace; its events, in order."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.namespace = "/" + name.rsplit("/", 1)[0]
        self.events: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
        self.client = socketio.AsyncClient(reconnection_delay=0.05)
        self.client.on("*", self._heard, namespace=self.namespace)

    async def _heard(self, event: str, *args: Any) -> None:
        self.events.put_nowait((event, args))

    async def receive(self, kind: str) -> Any:
        event, args = await asyncio.wait_for(self.events.get(), DEADLINE)
        assert event == kind
        return args[0]

    async def emit(self, kind: str, message: object) -> None:
        await self.client.emit(kind, message, namespace=self.namespace)

    async def request(self, kind: str, message: object) -> Any:
        return await self.client.call(kind, message, namespace=self.namespace, timeout=DEADLINE)


@asynccontextmanager
async def python_actor(url: str, name: str, transports: list[str], *, auth: bool = False) -> AsyncIterator[PythonActor]:
    actor = PythonActor(name)
    given = {"actor": name} if auth else None
    await actor.client.connect(url, namespaces=[actor.namespace], transports=transports, auth=given)
    try:
        if not auth:
            assert await actor.receive("whoareyou") == {}
            await actor.emit("iam", name)
        assert await actor.receive("hello") == {}
        yield actor
    finally:
        await actor.client.disconnect()


class PlainActor:
    """A raw WebSocket, as docs/plain-protocol.md describes it."""

    def __init__(self, socket: ClientConnection, name: str) -> None:
        self.id = name
        self._socket = socket

    async def say(self, **frame: object) -> None:
        await self._socket.send(json.dumps(frame))

    async def hear(self, op: str) -> dict[str, Any]:
        frame = json.loads(await asyncio.wait_for(self._socket.recv(), DEADLINE))
        assert frame["op"] == op, frame
        return dict(frame)

    async def request(self, kind: str, message: object) -> Any:
        await self.say(op="send", ref=1, type=kind, message=message)
        return (await self.hear("answer"))["answer"]


@asynccontextmanager
async def plain_actor(url: str, name: str) -> AsyncIterator[PlainActor]:
    address = url.replace("http", "ws", 1) + "/ws"
    async with connect(address, subprotocols=["smart-router.v1"], compression=None) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "smart-router.v1"
        actor = PlainActor(socket, name)
        await actor.hear("whoareyou")
        await actor.say(op="identify", actor=name, acks=True)
        assert (await actor.hear("hello"))["ack"] == "received"
        yield actor


@pytest.mark.parametrize("auth", [False, True], ids=["iam", "auth object"])
@pytest.mark.parametrize(
    "transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids=["websocket", "polling", "upgrade"]
)
async def test_python_socketio(url: str, unique: str, transports: list[str], auth: bool) -> None:
    bot_name, page_name = f"agent/456/bot-{unique}", f"ui/456/page-{unique}"
    async with python_actor(url, page_name, transports, auth=auth) as page:
        waiting = await page.request("talk", {"ids": {"agent": bot_name}, "payload": "while you were away"})
        assert waiting["status"] == "queued"
        async with python_actor(url, bot_name, transports, auth=auth) as bot:
            assert (await bot.receive("talk"))["id"] == waiting["id"]
            for n in range(50):
                await page.emit("talk", {"ids": {"agent": bot_name}, "payload": [n, b"\x00\xff" * n]})
            heard = [await bot.receive("talk") for _ in range(50)]
            assert [message["payload"] for message in heard] == [[n, b"\x00\xff" * n] for n in range(50)]
            await bot.emit("talkback", {"ids": {"ui": page_name}, "payload": "☃"})
            assert (await page.receive("talkback"))["payload"] == "☃"
        await page.emit("shout", {"ids": {}})
        assert (await page.receive("error"))["code"] == "no_route"


async def test_python_socketio_is_refused_in_words(url: str) -> None:
    client = socketio.AsyncClient()
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(url, namespaces=["/nowhere"], transports=["websocket"])
    await client.disconnect()


async def test_a_raw_websocket(url: str, unique: str) -> None:
    bot_name, page_name = f"agent/456/bot-{unique}", f"ui/456/page-{unique}"
    async with plain_actor(url, page_name) as page:
        waiting = await page.request("talk", {"ids": {"agent": bot_name}, "payload": "while you were away"})
        assert waiting["status"] == "queued"
        async with plain_actor(url, bot_name) as bot:
            first = await bot.hear("deliver")
            assert (first["n"], first["type"], first["message"]["id"]) == (1, "talk", waiting["id"])
            await bot.say(op="ack", upto=1)
            for n in range(50):
                await page.say(op="send", type="talk", message={"ids": {"agent": bot_name}, "payload": n})
            heard = [await bot.hear("deliver") for _ in range(50)]
            assert [frame["message"]["payload"] for frame in heard] == list(range(50))
        async with plain_actor(url, bot_name) as bot:
            again = [await bot.hear("deliver") for _ in range(50)]
            assert [frame["message"]["id"] for frame in again] == [frame["message"]["id"] for frame in heard]
            assert all(frame["message"]["redelivered"] for frame in again), "none of them was confirmed"
            await bot.say(op="ack", upto=50)
        refused = await page.request("shout", {"ids": {}})
        assert refused["error"]["code"] == "no_route"


async def test_all_kinds_talk_to_each_other(actors: Actors, url: str, unique: str) -> None:
    """The same message, from each kind to each kind, is the same message."""
    names = [f"ui/456/{kind}-{unique}" for kind in ("node", "python", "plain")]
    node = actors.connect(url, names[0])
    async with python_actor(url, names[1], ["websocket"]) as python, plain_actor(url, names[2]) as plain:
        payload = {"text": "☃", "number": 9007199254740991, "nothing": None}
        for to in names:
            node.emit("echo", {"ids": {"default": to}, "payload": payload, "more": [1.5]})
            await python.emit("echo", {"ids": {"default": to}, "payload": payload, "more": [1.5]})
            await plain.say(op="send", type="echo", message={"ids": {"default": to}, "payload": payload, "more": [1.5]})
        by_python = [await python.receive("echo") for _ in names]
        by_plain = [(await plain.hear("deliver"))["message"] for _ in names]
    by_node = [node.receive("echo") for _ in names]
    for heard in (by_node, by_python, by_plain):
        assert {message["from"] for message in heard} == set(names)
        assert all(message["payload"] == payload and message["more"] == [1.5] for message in heard)


async def test_binary_to_the_plain_protocol_and_back(actors: Actors, url: str, unique: str) -> None:
    page = actors.connect(url, f"ui/456/page-{unique}")
    async with plain_actor(url, f"agent/456/bot-{unique}") as bot:
        page.emit("talk", {"ids": {"agent": bot.id}, "payload": {"file": {"$bytes": "AAH/"}}})
        frame = await bot.hear("deliver")
        assert frame["attachments"] == ["AAH/"]
        assert frame["message"]["payload"] == {"file": {"_placeholder": True, "num": 0}}
        message = {"ids": {"ui": page.id}, "payload": [{"_placeholder": True, "num": 0}]}
        await bot.say(op="send", type="talkback", message=message, attachments=["AAH/"])
        assert page.receive("talkback")["payload"] == [{"$bytes": "AAH/"}]
