"""Clocks, descriptors, memory, storms: the whole server with one thing taken from it (C9, C12, C13, L2)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.conftest import StartServer
from tests.gateways.engine_clients import open_websocket, request
from tests.gateways.raw import frame, upgrade
from tests.processes import PROGRAM, ServerProcess
from tests.security.clocked import ahead, serve_clocked, set_clock, still
from tests.security.crowd import Crowd
from tests.security.ports import (
    SECRET,
    SOCKETIO,
    TOKENS,
    check_log,
    configuration,
    cpu_seconds,
    good_client,
    metrics,
    resident,
)

__all__: list[str] = []

HOUR = 3600.0
MEMBERS = 2000
ABUSIVE = 1000
QUICK_HEARTBEAT = """
[[server.gateways]]
kind = "socketio"
path = "/socket.io/"
ping_interval = 0.5
ping_timeout = 5.0
[[server.gateways]]
kind = "plain"
path = "/ws"
"""


# C9


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ServerProcess]:
    config = configuration(tmp_path, QUICK_HEARTBEAT, TOKENS)
    server = serve_clocked(("--config", config, "--data", str(tmp_path / "data")), tmp_path, ahead(0))
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
    check_log(server)


def token(subject: str, lasting: float) -> str:
    now = int(time.time())  # noqa: TID251  (what an issuer does)
    return jwt.encode({"alg": "HS256"}, {"sub": subject, "exp": now + int(lasting)}, OctKey.import_key(SECRET))


async def test_a_clock_that_jumps_moves_nothing_but_tokens(clocked: ServerProcess, tmp_path: Path) -> None:
    day = token("ui/456/good", 24 * HOUR)
    async with good_client(clocked.port, "ui/456/good", day) as good, open_websocket(clocked.port, "/ws") as short:
        await short.receive()
        short.send(json.dumps({"op": "identify", "actor": "ui/456/short", "token": token("ui/456/short", 600)}))
        assert json.loads(await short.receive())["op"] == "hello"
        waiting = {"ids": {"default": "ui/456/away"}, "payload": "kept", "options": {"ttl": 60}}
        short.send(json.dumps({"op": "send", "ref": 1, "type": "echo", "message": waiting}))
        assert "error" not in json.loads(await short.receive())["answer"]

        set_clock(tmp_path, ahead(-HOUR))
        await good.exchange()
        set_clock(tmp_path, still(int(time.time() * 1000)))  # noqa: TID251
        for _ in range(100):
            await good.exchange()
        short.send('{"op":"ping"}')
        assert json.loads(await short.receive())["op"] == "pong"

        set_clock(tmp_path, ahead(HOUR))
        codes = []
        async with asyncio.timeout(5):
            while "token_expired" not in codes:
                codes.append(json.loads(await short.receive()).get("code"))
        assert await short.closed() == 4401
        await good.exchange()
        async with open_websocket(clocked.port, "/ws") as away:
            await away.receive()
            away.send(json.dumps({"op": "identify", "actor": "ui/456/away", "token": token("ui/456/away", 5 * HOUR)}))
            frames = [json.loads(await away.receive()) for _ in range(2)]
            assert [one["op"] for one in frames] == ["hello", "deliver"]
            assert frames[1]["message"]["payload"] == "kept"
        shown = await metrics(clocked.port, "static-token-of-the-administrator-0123456789")
        assert shown["smart_router_plain_timed_out_total"] == 0


# C12


@pytest.mark.fault
async def test_no_descriptors_left(tmp_path: Path) -> None:
    place = f"--port 0 --drain 0.1 --data {tmp_path / 'data'} --config {configuration(tmp_path)}"
    limited = ["bash", "-c", f"ulimit -n 64 && exec {PROGRAM} serve {place}"]
    server = await asyncio.to_thread(ServerProcess, limited, tmp_path, "limited", {})
    try:
        async with good_client(server.port) as good:
            await good.exchange()
            pending = [asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
            opened = [
                pair for pair in await asyncio.gather(*pending, return_exceptions=True) if isinstance(pair, tuple)
            ]
            spent, started = cpu_seconds(server.pid), time.monotonic()
            while time.monotonic() < started + 3:
                await good.exchange()
                await asyncio.sleep(0.1)
            assert cpu_seconds(server.pid) - spent < 0.2 * (time.monotonic() - started)
            for _, writer in opened:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
            await good.exchange()
            async with asyncio.timeout(5), good_client(server.port, "ui/456/new") as new:
                await new.exchange()
        assert await asyncio.to_thread(server.stop) == 0
    finally:
        server.kill()
    check_log(server)


# C13


def abuse(number: int) -> bytes:
    """What an abusive client sends; then it neither reads nor leaves."""
    actor = f"ui/456/abuser-{number}"
    identify = frame(1, json.dumps({"op": "identify", "actor": actor}).encode())
    message = {"ids": {"default": actor}, "payload": "x" * 40_000}
    flood = frame(1, json.dumps({"op": "send", "type": "echo", "message": message}).encode()) * 20
    kinds = [
        upgrade(b"/ws", host=b"x") + identify + flood,  # never reads what it sends to itself
        upgrade(b"/ws", host=b"x") + frame(1, b"x" * 100_000)[:-1],  # a frame short of its last byte
        upgrade(b"/ws", host=b"x") + frame(1, b"x" * 100, fin=False) + frame(0, b"y" * 100, fin=False) * 1000,
        upgrade(SOCKETIO.encode(), host=b"x")
        + frame(1, b'451-["x",{"_placeholder":true,"num":0}]')
        + frame(2, bytes(60_000)),
        upgrade(SOCKETIO.encode(), host=b"x") + frame(1, b"40") * 50,
        b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 130000\r\n\r\n"
        + b"x" * 129_000,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: " + b"y" * 15_000,
        b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 15,
    ]
    return kinds[number % len(kinds)]


async def one_abuser(port: int, number: int, stop: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(abuse(number))
    await stop.wait()
    writer.transport.abort()
    del reader


@pytest.mark.fault
async def test_memory_under_a_thousand_abusive_clients(start_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, "--config", configuration(tmp_path), "--drain", "0.1")
    stop, most = asyncio.Event(), 0
    async with good_client(server.port) as good:
        abusers = [asyncio.create_task(one_abuser(server.port, number, stop)) for number in range(ABUSIVE)]
        until = time.monotonic() + 15
        while time.monotonic() < until:
            await good.exchange()
            most = max(most, resident(server.pid))
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*abusers, return_exceptions=True)
        await good.exchange()
    assert most < 300_000_000
    check_log(server)


# L2


@pytest.mark.fault
async def test_everybody_comes_back_at_once(start_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(
        start_server, "--config", configuration(tmp_path, QUICK_HEARTBEAT), "--drain", "0.1"
    )
    crowd = Crowd(server.port, MEMBERS)
    try:
        async with good_client(server.port) as good:
            await crowd.gather(60)
            for _ in range(3):
                crowd.cut()
                returning = asyncio.create_task(crowd.gather(30))
                while not returning.done():
                    await good.exchange()
                    await asyncio.sleep(0.02)
                await returning
        heard = crowd.pongs
        async with asyncio.timeout(30):
            while crowd.pongs < heard + 3 * MEMBERS:  # noqa: ASYNC110 (heartbeats of another process)
                await asyncio.sleep(0.05)
        assert crowd.lost == 0
        assert crowd.here == MEMBERS
        assert (await metrics(server.port))["smart_router_socketio_timed_out_total"] == 0
    finally:
        crowd.cut()
    assert (await request(server.port, "GET", "/healthz")).status == 200
    check_log(server)
