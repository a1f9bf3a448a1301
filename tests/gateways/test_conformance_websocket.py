"""Bare WebSockets: every message comes back; who answers no ping is closed."""

from __future__ import annotations

import pytest

from tests.gateways.conformance_server import served
from tests.gateways.engine_clients import open_websocket


@pytest.mark.parametrize("message", ["", "text €", b"", b"\x00\xff", "x" * 70_000, bytes(2_000_000)], ids=len)
async def test_echo(message: str | bytes) -> None:
    async with served() as server, open_websocket(server.port, "/ws") as websocket:
        websocket.send(message)
        assert await websocket.receive() == message


async def test_a_peer_that_is_dead() -> None:
    async with served(websocket_ping=0.05) as server, open_websocket(server.port, "/ws") as websocket:
        assert await websocket.closed() is None
        assert server.websocket.statistics().timed_out == 1
        assert server.websocket.connections == 0


async def test_a_peer_that_answers() -> None:
    async with served(websocket_ping=0.05) as server, open_websocket(server.port, "/ws") as websocket:
        for _ in range(3):
            await websocket.pinged()
        websocket.send("still here")
        assert await websocket.receive() == "still here"


async def test_drain() -> None:
    async with served() as server, open_websocket(server.port, "/ws") as websocket:
        await server.websocket.drain(1)
        assert await websocket.closed() == 1012
