"""Whatever bytes arrive: an error or a close for whoever sent them; nobody else notices, and nothing of them stays."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.gateways.engine_clients import poll_session, request
from tests.processes import ServerProcess
from tests.security.hostile import connections, posts
from tests.security.ports import check_log, configuration, good_client, metrics, raw, resident

__all__: list[str] = []

TRACE = re.compile(rb'Traceback|File "|line \d+, in|smart_router[./]\w+')
AT_ONCE = 10


async def one(server: ServerProcess, data: bytes, limit: asyncio.Semaphore) -> None:
    async with limit:
        answer = await raw(server.port, data)
    assert not TRACE.search(answer), answer
    assert not answer or answer.startswith(b"HTTP/1.1 "), answer


async def one_post(server: ServerProcess, body: bytes, limit: asyncio.Semaphore) -> None:
    async with limit:
        _, session = await poll_session(server.port, "/socket.io/")
        answer = await request(server.port, "POST", session, body)
    assert answer.status in (200, 400, 413), answer
    assert not TRACE.search(answer.body)


async def throw(server: ServerProcess, seed: int, count: int) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for data in connections(seed, count):
            group.create_task(one(server, data, limit))
        for body in posts(seed, count // 5):
            group.create_task(one_post(server, body, limit))


async def while_a_good_client_goes_on(server: ServerProcess, seed: int, count: int) -> int:
    done = asyncio.Event()
    async with good_client(server.port, f"ui/456/good-{seed}") as good:
        going_on = asyncio.create_task(good.keep_on(done))
        await throw(server, seed, count)
        done.set()
        await going_on
        return good.exchanged


async def test_a_good_client_misses_nothing(server: ServerProcess) -> None:
    before = await metrics(server.port)
    assert await while_a_good_client_goes_on(server, 1, 400) > 10
    after = await metrics(server.port)
    refused = ("listener_requests_refused_total", "listener_websockets_failed_total", "socketio_protocol_errors_total")
    for name in (*refused, "plain_protocol_errors_total", "listener_handshakes_refused_total"):
        assert after[f"smart_router_{name}"] > before[f"smart_router_{name}"], name
    for name in ("listener_application_errors_total", "listener_handler_errors_total", "socketio_handler_errors_total"):
        assert after[f"smart_router_{name}"] == 0, name
    lines = check_log(server)
    assert not any(line["level"] in ("error", "critical") for line in lines)
    assert len(lines) < 700  # one a connection at most, two for those that were upgraded and then failed


IMPATIENT = """
[[server.gateways]]
kind = "socketio"
path = "/socket.io/"
ping_interval = 0.5
ping_timeout = 0.5
connect_timeout = 1.0
[[server.gateways]]
kind = "plain"
path = "/ws"
"""


@pytest.mark.fault
async def test_nothing_of_it_stays(start_server: StartServer, tmp_path: Path) -> None:
    """The first rounds are for what the allocator keeps for good."""
    server = await asyncio.to_thread(start_server, "--config", configuration(tmp_path, IMPATIENT))
    for seed in range(2, 6):
        await while_a_good_client_goes_on(server, seed, 2000)
    before = resident(server.pid)
    for seed in range(6, 10):
        await while_a_good_client_goes_on(server, seed, 2000)
    assert resident(server.pid) < before + 12_000_000
    check_log(server)
