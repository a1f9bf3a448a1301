"""What a connection leaves behind: nothing that must wait for the garbage collector, which runs rarely in a node."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from smart_router.app import Node
from tests.api.nodes import running, settings_of
from tests.gateways.engine_clients import open_websocket, poll_session, request

__all__: list[str] = []

SOCKETIO = "/socket.io/?EIO=4&transport=websocket"
TIMES = 5


@contextlib.contextmanager
def collected() -> Iterator[Counter[str]]:
    """Our own objects that only the collector could free, by type."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("smart_router"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def socketio(port: int) -> None:
    async with open_websocket(port, SOCKETIO) as websocket:
        await websocket.receive()
        websocket.send('40/ui/456,{"actor":"ui/456/ada"}')
        await websocket.receive()
        assert "hello" in str(await websocket.receive())
        websocket.send('42/ui/456,1["talk",{"ids":{}}]')
        assert "no_route" in str(await websocket.receive())


async def plain(port: int) -> None:
    async with open_websocket(port, "/ws") as websocket:
        await websocket.receive()
        websocket.send('{"op":"identify","actor":"ui/456/ada"}')
        assert "hello" in str(await websocket.receive())


async def polling(port: int) -> None:
    _, session = await poll_session(port, "/socket.io/")
    await request(port, "POST", session, b'40/ui/456,{"actor":"ui/456/ada"}')
    await request(port, "GET", session)
    await request(port, "POST", session, b"1")


async def http(port: int) -> None:
    assert (await request(port, "GET", "/healthz")).status == 200


def connections(node: Node) -> int:
    counted: list[int] = [part.connections for name, part in node.parts() if name in ("listener", "socketio", "plain")]
    return len(node.core.sessions) + sum(counted)


async def gone(node: Node) -> None:
    async with asyncio.timeout(10):
        while connections(node):  # noqa: ASYNC110 (a condition on counters: there is no event to wait for)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("surface", [socketio, plain, polling, http])
async def test_a_connection_leaves_no_garbage(tmp_path: Path, surface: Callable[[int], Awaitable[None]]) -> None:
    async with running(settings_of(tmp_path)) as node:
        port = node.addresses[0][1]
        await surface(port)  # what is made once is made
        await gone(node)
        with collected() as found:
            for _ in range(TIMES):
                await surface(port)
            await gone(node)
        assert not found
