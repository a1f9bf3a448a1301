"""P1 to P10 as they are met at the server's own port: what ends a connection, and how, and what it costs."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.gateways.engine_clients import open_websocket, poll_session, request
from tests.gateways.raw import frame, upgrade
from tests.gateways.test_http_malformed import HANDSHAKES, MALFORMED
from tests.processes import ServerProcess
from tests.security.ports import SOCKETIO, configuration, cpu_seconds, good_client, metrics, raw, resident

__all__: list[str] = []

LIMIT = 131_072
HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
OVER_ITS_OWN_LIMIT = ("Content-Length over the limit", "chunks over the limit")  # of that listener, not of the server
HASTY = """
[server.limits]
handshake_timeout = 0.5
body_timeout = 0.5
half_open_per_address = 5
"""


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


def close_code(answer: bytes) -> int:
    """Of the last frame."""
    assert b"\x88" in answer, answer
    place = answer.rindex(b"\x88")
    return int(struct.unpack(">H", answer[place + 2 : place + 4])[0])


# P1


@pytest.mark.parametrize("target", [b"/ws", SOCKETIO.encode()])
@pytest.mark.parametrize("size", [LIMIT + 1, 2**31, 2**63 - 1])
async def test_a_frame_over_the_limit_is_closed_at_its_head(server: ServerProcess, target: bytes, size: int) -> None:
    before = resident(server.pid)
    head = b"\x81\xff" + size.to_bytes(8, "big") + b"\0\0\0\0"
    answer = await raw(server.port, upgrade(target, host=b"127.0.0.1") + head + bytes(100_000), end=False)
    assert close_code(answer) == 1009
    assert resident(server.pid) < before + LIMIT + 65_536 + 4_000_000


@pytest.mark.parametrize("target", [b"/ws", SOCKETIO.encode()])
async def test_a_length_with_its_high_bit_set_is_no_length(server: ServerProcess, target: bytes) -> None:
    head = b"\x81\xff" + (2**63).to_bytes(8, "big") + b"\0\0\0\0"
    answer = await raw(server.port, upgrade(target, host=b"127.0.0.1") + head, end=False)
    assert close_code(answer) in (1002, 1009)


async def test_a_body_over_the_limit_is_refused_before_it_comes(server: ServerProcess) -> None:
    _, session = await poll_session(server.port, "/socket.io/")
    for target in (session, "/check", "/revocations", "/"):
        head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10**12}\r\n\r\n".encode()
        assert status(await raw(server.port, head, end=False)) == 413
        chunked = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        answer = await raw(server.port, chunked + (b"10000\r\n" + bytes(65_536) + b"\r\n") * 40, end=False)
        assert status(answer) in (200, 400, 404, 405, 413)  # `/check` wants no body, and reads none
        assert answer.count(b"HTTP/1.1 ") == 1


# P2


async def test_a_million_fragments_of_a_byte(server: ServerProcess) -> None:
    spent = cpu_seconds(server.pid)
    data = frame(1, b"x", fin=False) + frame(0, b"x", fin=False) * 1_000_000
    async with good_client(server.port, "ui/456/beside-fragments") as good:
        answer = await raw(server.port, upgrade(b"/ws", host=b"127.0.0.1") + data, end=False)
        await good.exchange()
    assert close_code(answer) == 1009
    assert (
        cpu_seconds(server.pid) - spent < 7 * 1.0
    )  # 7 MB of frames; read no further than the limit, it is nearly none


# P3


@pytest.mark.parametrize("target", [b"/ws", SOCKETIO.encode()])
async def test_compression_is_not_negotiated(server: ServerProcess, target: bytes) -> None:
    offer = upgrade(target, host=b"127.0.0.1", sec_websocket_extensions=b"permessage-deflate; client_max_window_bits")
    answer = await raw(server.port, offer + frame(1, b"\xca\x48", rsv=0x40), end=False)
    assert b"sec-websocket-extensions" not in answer.lower()
    assert close_code(answer) == 1002


async def test_an_encoded_body_is_refused(server: ServerProcess) -> None:
    _, session = await poll_session(server.port, "/socket.io/")
    for encoding in ("gzip", "deflate", "br", "gzip, gzip", "x" * 100):
        answer = await request(server.port, "POST", session, b"40", (("content-encoding", encoding),))
        assert answer.status == 415


# P7


async def test_ten_thousand_pings_a_second(server: ServerProcess) -> None:
    async with good_client(server.port, "ui/456/beside-pings") as good:
        for control in (frame(9, b"x"), frame(10, b"x")):
            answer = await raw(server.port, upgrade(b"/ws", host=b"127.0.0.1") + control * 10_000, end=False)
            assert close_code(answer) == 1008
            await good.exchange()
    assert (await metrics(server.port))["smart_router_listener_control_floods_total"] >= 2


# P8


async def test_heads_and_bodies_that_never_end(start_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, "--config", configuration(tmp_path, HASTY), "--drain", "0.1")
    unfinished = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost:",
        upgrade()[:-2],
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n12",
    ]
    async with good_client(server.port) as good:
        answers = asyncio.gather(*(raw(server.port, data, end=False) for data in unfinished * 20))
        while not answers.done():
            await good.exchange()
    assert {status(answer) for answer in await answers} <= {404, 405, 408}
    late = await metrics(server.port)
    assert late["smart_router_listener_heads_late_total"] + late["smart_router_listener_bodies_late_total"] > 0
    assert late["smart_router_listener_connections"] <= 2


# P9


async def test_malformed_requests_are_refused_once(server: ServerProcess) -> None:
    """The table of tests/gateways/test_http_malformed.py, through the whole server; nothing behind one is a request."""
    before = (await metrics(server.port))["smart_router_listener_requests_refused_total"]
    for name, (data, wanted) in MALFORMED.items():
        if name in OVER_ITS_OWN_LIMIT:
            continue
        answer = await raw(server.port, data + b"\r\n\r\n" + GET)
        assert (name, status(answer)) == (name, wanted)
        assert answer.count(b"HTTP/1.1 ") == 1, name
        assert b"alive" not in answer
    after = (await metrics(server.port))["smart_router_listener_requests_refused_total"]
    assert after - before == len(MALFORMED) - len(OVER_ITS_OWN_LIMIT)


@pytest.mark.parametrize("path", [b"/ws", SOCKETIO.encode(), b"/nowhere"])
async def test_bad_handshakes_are_refused(server: ServerProcess, path: bytes) -> None:
    for name, (data, wanted) in HANDSHAKES.items():
        answer = await raw(server.port, data.replace(b" /ws ", b" " + path + b" ", 1) + frame(1, b"x") + GET)
        assert status(answer) in (wanted, 403) if "origin" in name else status(answer) == wanted, name
        assert answer.count(b"HTTP/1.1 ") == 1


# P10, and pages under a name that anybody may have pointed at us


@pytest.mark.parametrize(
    ("origin", "host", "wanted"),
    [
        ("http://127.0.0.1:{}", "127.0.0.1:{}", 0),
        ("http://localhost:{}", "localhost:{}", 0),
        ("http://evil.example", "127.0.0.1:{}", 403),
        ("null", "127.0.0.1:{}", 403),
        ("http://rebound.example:{}", "rebound.example:{}", 403),
        ("http://localhost.evil.example:{}", "localhost.evil.example:{}", 403),
    ],
)
async def test_pages_of_others_are_refused_everywhere(
    server: ServerProcess, origin: str, host: str, wanted: int
) -> None:
    origin, host = origin.format(server.port), host.format(server.port)
    page = {"origin": origin.encode(), "host": host.encode()}
    for target in (b"/ws", SOCKETIO.encode()):
        assert status(await raw(server.port, upgrade(target, **page))) == (wanted or 101)
    lines = f"Host: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n"
    for start in (
        "GET /socket.io/?EIO=4&transport=polling",
        "OPTIONS /socket.io/?EIO=4&transport=polling",
        "POST /check",
    ):
        answer = await raw(server.port, f"{start} HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n".encode())
        assert status(answer) == (wanted or (204 if start.startswith("OPTIONS") else 200))
        if wanted:
            assert b"access-control-allow" not in answer.lower()
    if "rebound" in host:
        assert b"[server] origins" in await raw(server.port, upgrade(b"/ws", **page))


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/socket.io/?EIO=4&transport=polling"])
async def test_a_get_without_origin_is_answered_under_an_address_only(server: ServerProcess, path: str) -> None:
    """A page under a name that was pointed at us reads by GET: such a request has no Origin (DNS rebinding)."""
    start = f"GET {path} HTTP/1.1\r\nConnection: close\r\nHost: "
    for host, wanted in (("rebound.example", 403), ("127.0.0.1", 200), (f"localhost:{server.port}", 200)):
        answer = await raw(server.port, f"{start}{host}\r\n\r\n".encode())
        assert status(answer) == wanted, answer
        assert (b"[server] origins" in answer) == (wanted == 403)


async def test_probes_may_use_any_name(server: ServerProcess) -> None:
    """A load balancer asks under a name of its own, and what it is told is no secret."""
    for path in (b"/healthz", b"/readyz"):
        answer = await raw(server.port, b"GET " + path + b" HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n")
        assert status(answer) == 200


async def test_where_a_token_is_needed_the_name_does_not_matter(guarded: ServerProcess) -> None:
    start = b"GET /openapi.json HTTP/1.1\r\nConnection: close\r\nHost: rebound.example\r\n\r\n"
    assert status(await raw(guarded.port, start)) == 200


async def test_a_page_under_a_name_is_ours_where_a_token_is_needed(guarded: ServerProcess) -> None:
    page = {"origin": b"http://chat.example", "host": b"chat.example"}
    assert status(await raw(guarded.port, upgrade(b"/ws", **page))) == 101


# P11


async def test_a_session_belongs_to_its_token(server: ServerProcess) -> None:
    bearer = (("authorization", "Bearer one"),)
    _, session = await poll_session(server.port, "/socket.io/", bearer)
    for headers in ((), (("authorization", "Bearer two"),)):
        assert (await request(server.port, "POST", session, b"40", headers)).status == 400
    async with open_websocket(server.port, SOCKETIO) as socket:
        sid = json.loads(str(await socket.receive())[1:])["sid"]
    assert len(sid) >= 20
    for guess in (sid, sid[:-1], sid.upper(), "", "x" * 20, "__proto__", "../" + sid):
        stolen = await request(server.port, "GET", f"/socket.io/?EIO=4&transport=polling&sid={guess}x")
        assert stolen.status == 400
