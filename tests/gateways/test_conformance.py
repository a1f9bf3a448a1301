"""The conformance app with real clients: three versions of socket.io-client, python-socketio, each transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio

from tests.conftest import StartNodeClient
from tests.gateways.conformance_server import Served, conformance, served

VERSIONS = ("socket.io-client", "socket.io-client-4.5", "socket.io-client-3.1")
TRANSPORTS = ("websocket", "polling", "polling,websocket")


class Client:
    """A Node client's lines, read without blocking the loop that serves it."""

    def __init__(self, start: StartNodeClient, server: Served, version: str, transports: str) -> None:
        self._process = start("conformance/client.cjs", version, f"http://127.0.0.1:{server.port}", transports)

    def do(self, *command: Any) -> None:
        self._process.write_json(command)

    async def event(self) -> list[Any]:
        event: list[Any] = await asyncio.to_thread(self._process.read_json)
        return event

    async def joined(self, namespace: str = "/", auth: dict[str, Any] | None = None) -> str:
        self.do("join", namespace, auth if auth is not None else {})
        name, where, sid = await self.event()
        assert (name, where) == ("connect", namespace)
        assert await self.event() == ["auth", namespace, auth or {}]
        return str(sid)


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with served(ping_interval=0.3, ping_timeout=5) as server:
        yield server


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TRANSPORTS)
def transports(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(node_client: StartNodeClient, server: Served, version: str, transports: str) -> Client:
    client = Client(node_client, server, version, transports)
    assert await client.event() == ["ready"]
    return client


async def test_echo(client: Client) -> None:
    """Text, binary, acknowledgements, in two namespaces of one connection; leaving one keeps the other."""
    first = await client.joined("/", {"a": 1})
    second = await client.joined("/custom", {"b": [True]})
    assert first != second
    client.do("emit", "/", 1, "2", {"3": [True]})
    assert await client.event() == ["message-back", "/", 1, "2", {"3": [True]}]
    client.do("binary", "/custom", 1, 2, 3)
    assert await client.event() == ["message-back", "/custom", {"bytes": [1, 2, 3]}]
    client.do("ask", "/custom", "é", None)
    assert await client.event() == ["answer", "/custom", "é", None]
    client.do("leave", "/custom")
    assert await client.event() == ["disconnect", "/custom", "io client disconnect"]
    client.do("emit", "/", "still here")
    assert await client.event() == ["message-back", "/", "still here"]


async def test_burst(client: Client, server: Served) -> None:
    """Five messages every 2 ms, through the upgrade if there is one: none lost, none out of order, none twice."""
    await client.joined()
    client.do("burst", "/", 1000)
    received = [(await client.event())[2] for _ in range(1000)]
    assert received == list(range(1000))


async def test_upgrade_happens(node_client: StartNodeClient, server: Served, version: str) -> None:
    client = Client(node_client, server, version, "polling,websocket")
    assert await client.event() == ["ready"]
    await client.joined()
    client.do("burst", "/", 500)
    received = [(await client.event())[2] for _ in range(500)]
    assert received == list(range(500))
    transport = ""
    while transport != "websocket":
        client.do("transport")
        transport = (await client.event())[1]
    assert server.socketio.engine_statistics().upgrades == 1


async def test_comes_back_after_a_cut(client: Client) -> None:
    """With a new id; what was emitted meanwhile arrives once."""
    first = await client.joined()
    client.do("cut")
    assert (await client.event())[0] == "disconnect"
    client.do("emit", "/", "meanwhile")
    events = sorted([await client.event() for _ in range(3)], key=lambda event: str(event[0]))
    assert [event[0] for event in events] == ["auth", "connect", "message-back"]
    assert events[1][2] != first
    assert events[2][2] == "meanwhile"


async def test_comes_back_after_a_drain(client: Client, server: Served) -> None:
    """The transport closes without a DISCONNECT, after which no client would try; this server lets none in now."""
    await client.joined()
    await server.socketio.drain(0.1)
    event = await client.event()
    assert event[0] == "disconnect"
    assert event[2].startswith("transport")
    assert (await client.event())[0] == "connect_error"


async def test_refusals(client: Client) -> None:
    client.do("join", "/random", {})
    event = await client.event()
    assert event == ["connect_error", "/random", "Invalid namespace", None]


async def test_token(node_client: StartNodeClient, version: str, transports: str) -> None:
    async with served(conformance.Conformance("secret"), ping_timeout=5) as server:
        client = Client(node_client, server, version, transports)
        assert await client.event() == ["ready"]
        client.do("join", "/", {"token": "wrong"})
        event = await client.event()
        assert event[:2] == ["connect_error", "/"]
        assert event[3]["code"] == "unauthorized"
        await client.joined("/custom", {"token": "secret"})


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids=str)
async def test_python_socketio(server: Served, transports: list[str]) -> None:
    client = socketio.AsyncClient(reconnection=False)
    events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def keep(name: str, *values: Any) -> None:
        await events.put((name, *values))

    client.on("*", keep, namespace="/custom")
    await client.connect(
        f"http://127.0.0.1:{server.port}", namespaces=["/custom"], auth={"a": 1}, transports=transports
    )
    try:
        assert await events.get() == ("auth", {"a": 1})
        await client.emit("message", (1, b"\x01\x02"), namespace="/custom")
        assert await events.get() == ("message-back", 1, b"\x01\x02")
        assert await client.call("message-with-ack", "x", namespace="/custom") == "x"
        for number in range(200):
            await client.emit("message", number, namespace="/custom")
        received = {(await events.get())[1] for _ in range(200)}
        assert received == set(range(200))
    finally:
        await client.disconnect()
