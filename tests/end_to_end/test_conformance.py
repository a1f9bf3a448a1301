"""The conformance app as it is started: one process, four surfaces, no state left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartNodeClient, StartServer
from tests.gateways.engine_clients import Closed, RawWebSocket, open_websocket, poll_session, request
from tests.processes import ROOT, ServerProcess

CONFIG = str(ROOT / "examples" / "conformance" / "smart-router.toml")
SOCKETIO = "/socket.io/?EIO=4&transport=websocket"
HOSTILE = 1000


async def start(start_server: StartServer, **environment: str) -> ServerProcess:
    return await asyncio.to_thread(start_server, "--config", CONFIG, environment=environment)


async def test_surfaces(start_server: StartServer) -> None:
    server = await start(start_server)
    assert (await request(server.port, "GET", "/healthz")).status == 200
    async with open_websocket(server.port, SOCKETIO) as websocket:
        assert '"pingInterval":300,"pingTimeout":200,"maxPayload":1000000' in str(await websocket.receive())
        websocket.send("40")
        assert str(await websocket.receive()).startswith('40{"sid":"')
        assert await websocket.receive() == '42["auth",{}]'
    _, session = await poll_session(server.port, "/engine.io/")
    await request(server.port, "POST", session, b"4hello")
    assert (await request(server.port, "GET", session)).body == b"4hello"
    async with open_websocket(server.port, "/ws") as websocket:
        websocket.send("text €")
        assert await websocket.receive() == "text €"
        websocket.send(b"\x00\xff")
        assert await websocket.receive() == b"\x00\xff"
        websocket.frame(0x1, b"in ", first=0)
        websocket.frame(0x0, b"parts")
        assert await websocket.receive() == "in parts"


async def test_large_messages_come_back_whole(start_server: StartServer) -> None:
    server = await start(start_server)
    async with open_websocket(server.port, "/ws") as websocket:
        large = bytes(16_000_000)
        websocket.send(large)
        assert await websocket.receive() == large


async def test_ends_with_status_0(start_server: StartServer) -> None:
    server = await start(start_server)
    async with open_websocket(server.port, SOCKETIO) as websocket:
        await websocket.receive()
        status = asyncio.create_task(asyncio.to_thread(server.stop))
        with pytest.raises(Closed):
            await _read_all(websocket)
        assert await status == 0


async def _read_all(websocket: RawWebSocket) -> None:
    while True:
        await websocket.receive()


async def test_token(start_server: StartServer) -> None:
    server = await start(start_server, CONFORMANCE_TOKEN="secret")
    async with open_websocket(server.port, SOCKETIO) as websocket:
        await websocket.receive()
        websocket.send('40{"token":"other"}')
        assert str(await websocket.receive()).startswith('44{"message":')
        websocket.send('40{"token":"secret"}')
        assert str(await websocket.receive()).startswith('40{"sid":"')
    assert "secret" not in server.log()


@pytest.mark.parametrize("transports", ["websocket", "polling", "polling,websocket"])
async def test_real_client(start_server: StartServer, node_client: StartNodeClient, transports: str) -> None:
    server = await start(start_server)
    client = node_client("conformance/client.cjs", "socket.io-client", server.url, transports)

    async def event() -> Any:
        return await asyncio.to_thread(client.read_json)

    assert await event() == ["ready"]
    client.write_json(["join", "/custom", {"a": 1}])
    assert (await event())[:2] == ["connect", "/custom"]
    assert await event() == ["auth", "/custom", {"a": 1}]
    client.write_json(["burst", "/custom", 300])
    assert [(await event())[2] for _ in range(300)] == list(range(300))


def resident(server: ServerProcess) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text("ascii").split()[1]) * 4096


@pytest.mark.slow
async def test_attachments_that_never_come(start_server: StartServer) -> None:
    """Announced, half sent, cut: nothing of it stays (P5). The log has no line of ours per such client but one."""
    server = await start(start_server)

    async def announce() -> None:
        async with open_websocket(server.port, SOCKETIO) as websocket:
            await websocket.receive()
            websocket.send("40")
            await websocket.receive()
            await websocket.receive()
            websocket.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
            websocket.send(bytes(100_000))
            await websocket.writer.drain()

    async def many(count: int) -> None:
        for _ in range(count // 20):
            await asyncio.gather(*(announce() for _ in range(20)))

    # What the allocator keeps for good is there after 3,000; another 27,000 add less than 1 MB, for an ended connection
    # leaves nothing to the garbage collector (tests/gateways/test_garbage.py).
    await many(4 * HOSTILE)
    before = resident(server)
    await many(HOSTILE)
    await request(server.port, "GET", "/healthz")
    assert resident(server) < before + 5_000_000
    assert server.log().count("\n") < 3 * HOSTILE + 20
