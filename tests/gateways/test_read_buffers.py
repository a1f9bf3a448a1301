"""The budget of what all WebSockets hold of unfinished messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from smart_router.gateways.listener import ListenerSettings
from tests.gateways.raw import Client, connect, frame, listening, upgrade, websocket

__all__: list[str] = []

BUDGET = 300_000
MANY = 12
WHOLE = frame(1, b"echo" + b"x" * 100_000)
PARTS = frame(1, b"echo" + b"x" * 60_000, fin=False) + frame(0, b"y" * 40_000)
SMALL = ListenerSettings(port=0, read_buffers=BUDGET)


async def outcome(client: Client) -> int:
    """The opcode of what comes first: the echo, or the close frame."""
    opcode, payload = await client.frame()
    if opcode == 8:
        assert payload[:2] == (1013).to_bytes(2, "big")
    return opcode


@pytest.mark.parametrize("message", [WHOLE, PARTS], ids=["one frame", "fragments"])
async def test_over_the_budget_those_who_hold_most_are_closed(message: bytes) -> None:
    async with listening(SMALL) as server, websocket(server) as good:
        clients = [Client(*await asyncio.open_connection(*server.address)) for _ in range(MANY)]
        for client in clients:
            client.send(upgrade() + message[:70_000])
            await client.head()
        await server.until(lambda: server.listener.statistics().buffers_closed > 0)
        await server.until(lambda: 0 < server.listener.statistics().read_buffers <= BUDGET)
        for client in clients:
            client.send(message[70_000:])
        outcomes: list[Awaitable[int]] = [outcome(client) for client in clients]
        found = await asyncio.gather(*outcomes)
        assert found.count(8) == server.listener.statistics().buffers_closed
        assert 0 < found.count(1) < MANY
        good.send(frame(1, b"echo"))
        assert await good.frame() == (1, b"echo")
        for client in clients:
            client.writer.close()


async def test_who_sends_whole_messages_is_not_counted() -> None:
    async with listening(SMALL) as server, websocket(server) as client, connect(server) as slow:
        for _ in range(3):
            client.send(WHOLE)
            assert (await client.frame())[0] == 1
        slow.send(upgrade() + WHOLE[:70_000])
        await server.until(lambda: server.listener.statistics().read_buffers > 0)
        assert server.listener.statistics().read_buffers < 70_000
        assert server.listener.statistics().buffers_closed == 0
