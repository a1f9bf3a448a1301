"""What a hostile run leaves in the log (A7) and on /metrics (A10): nothing of what was sent, and all of it bounded."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.gateways.engine_clients import Closed, open_websocket, request
from tests.gateways.raw import upgrade
from tests.processes import ROOT, ServerProcess, serve
from tests.security.ports import ADMIN, SECRET, SOCKETIO, TOKENS, check_log, good_client, join, metrics, raw

__all__: list[str] = []

MARK = "WHAT-WAS-SENT"
HOSTILE = [
    "a\nlevel=error event=forged",
    "\x1b[2J\x1b[31m",
    "\r\x08\x7f\x9b\u2028\u202e",
    '"}\n{"event":"forged"}',
    "x" * 100_000,
]
TOKEN = f"token-that-nobody-may-see-{MARK}"
MAX_SERIES = 1000


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Iterator[ServerProcess]:
    """With the access log on, which shows the paths that were asked for."""
    place = ("--port", "0", "--data", str(folder / "faulty"), "--drain", "0.1", "--access-log")
    server = serve(("tests.security.faulty:app", *place), folder, "faulty", {"PYTHONPATH": str(ROOT)})
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()


async def test_an_application_that_fails_with_the_payload_in_its_hands(faulty: ServerProcess) -> None:
    async with open_websocket(faulty.port, "/ws") as plain, open_websocket(faulty.port, SOCKETIO) as socketio:
        await plain.receive()
        plain.send('{"op":"identify","actor":"ui/456/a","acks":true}')
        assert json.loads(await plain.receive())["op"] == "hello"
        assert (await join(socketio, "/ui/456", {"actor": "ui/456/b"}))[:2] == "40"
        for number, route in enumerate(("fail", "fail later", "fail badly")):
            message = {"ids": {"default": "ui/456/a"}, "payload": [MARK, *HOSTILE[:4]]}
            plain.send(json.dumps({"op": "send", "ref": number, "type": route, "message": message}))
            error = json.loads(await plain.receive())["answer"]["error"]
            assert error["code"] == "route_error"
            assert MARK not in str(error)
            socketio.send(f"42/ui/456,{json.dumps([route, message])}")
            told = await asyncio.wait_for(socketio.receive(), 10)
            while '"error"' not in str(told):
                told = await asyncio.wait_for(socketio.receive(), 10)
            assert MARK not in str(told)
    lines = check_log(faulty, [MARK])
    assert {line.get("exception") for line in lines if line["event"] == "route_raised"} >= {
        "RuntimeError",
        "ValueError",
    }
    assert any(line["event"] == "event_handler_failed" for line in lines)


async def test_names_and_paths_of_a_stranger(faulty: ServerProcess) -> None:
    for text in HOSTILE:
        quoted = text.encode().hex("%")
        path = "/%" + quoted[:9000]
        await raw(
            faulty.port,
            f"GET {path}?token={TOKEN}&EIO=4 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: {MARK}\r\n\r\n".encode(),
        )
        await raw(
            faulty.port,
            upgrade(path.encode(), origin=b"http://" + MARK.encode(), authorization=b"Bearer " + TOKEN.encode()),
        )
        await raw(faulty.port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + text.encode() + b"\r\n\r\n")
        async with open_websocket(faulty.port, "/ws") as plain, open_websocket(faulty.port, SOCKETIO) as socketio:
            await plain.receive()
            for frame in ({"op": "identify", "actor": f"ui/456/{text}", "token": TOKEN}, {"op": text}):
                plain.send(json.dumps(frame))
            try:
                await join(socketio, "/ui/456", {"actor": f"ui/456/{text}", "token": TOKEN})
                socketio.send(json.dumps([text, MARK]))
                await socketio.closed()
            except (Closed, AssertionError):
                pass
    lines = check_log(faulty, [MARK, TOKEN])
    assert not any(line["event"] == "forged" or line["level"] == "critical" for line in lines)


# A10


async def series_of(server: ServerProcess, count: int, seed: int) -> None:
    chance = random.Random(seed)
    async with open_websocket(server.port, "/ws") as sender:
        await sender.receive()
        sender.send('{"op":"identify","actor":"ui/456/sender","acks":true}')
        assert json.loads(await sender.receive())["op"] == "hello"
        for start in range(0, count, 200):
            for number in range(start, start + 200):
                name = f"{chance.randbytes(6).hex()}"
                message = {"ids": {"default": f"ui/456/{name}" if number % 2 else name}}
                sender.send(
                    json.dumps(
                        {"op": "send", "ref": number, "type": "echo" if number % 3 else name, "message": message}
                    )
                )
            for _ in range(200):
                while json.loads(await sender.receive())["op"] != "answer":
                    pass


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.fault)])
async def test_random_names_make_no_series(server: ServerProcess, count: int) -> None:
    async with good_client(server.port, "ui/456/first") as good:
        await good.exchange()
    await series_of(server, 200, 1)
    before = await metrics(server.port)
    await series_of(server, count, 2)
    after = await metrics(server.port)
    new = {name for name in set(after) - set(before) if not name.startswith("smart_router_ends_counts_total")}
    assert new == set()
    assert len(after) < MAX_SERIES


async def test_metrics_need_a_scope_and_show_nothing_secret(guarded: ServerProcess) -> None:
    assert (await request(guarded.port, "GET", "/metrics")).status == 401
    text = (
        await request(guarded.port, "GET", "/metrics", headers=(("authorization", f"Bearer {ADMIN}"),))
    ).body.decode()
    for secret in (ADMIN, SECRET, "root", str(Path.home()), "/data"):
        assert secret not in text
    assert TOKENS.count(ADMIN) == 1


async def test_a_whole_run_may_be_in_debug_and_still_be_lines(start_server: StartServer) -> None:
    """Exception texts are shown at this level; they are escaped and cut like everything else."""
    place = {"PYTHONPATH": str(ROOT)}
    arguments = ("tests.security.faulty:app", "--log-level", "debug", "--drain", "0.1")
    server = await asyncio.to_thread(start_server, *arguments, environment=place)
    async with open_websocket(server.port, "/ws") as plain:
        await plain.receive()
        plain.send('{"op":"identify","actor":"ui/456/a","acks":true}')
        assert json.loads(await plain.receive())["op"] == "hello"
        for text in HOSTILE[:4]:
            message = {"ids": {"default": "ui/456/a"}, "payload": text}
            plain.send(json.dumps({"op": "send", "ref": 1, "type": "fail", "message": message}))
            assert json.loads(await plain.receive())["answer"]["error"]["code"] == "route_error"
    assert any("forged" in line.get("exception", "") for line in check_log(server))
