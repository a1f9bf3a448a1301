"""What has gone wrong in other servers, tried on this one. Each name is explained in docs/security.md."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import zlib

import pytest

from tests.gateways.engine_clients import Closed, open_websocket, poll_session, request
from tests.gateways.raw import frame, upgrade
from tests.processes import ServerProcess
from tests.security.ports import ADMIN, SOCKETIO, good_client, join, metrics, raw, resident

__all__: list[str] = []

MAX_PAYLOAD = 131_072
PACKETS = 1_024
HEADERS = ["sec_websocket_key", "sec_websocket_version", "sec_websocket_protocol", "sec_websocket_extensions"]
HEADERS += ["connection", "upgrade", "origin", "host", "authorization", "cookie"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no FIN, a reset
PLACEHOLDERS = ["-1", "1.5", '"0"', "null", "true", "{}", "[]", "1e9", "9" * 30, '"__proto__"', "10"]
EVENT_NAMES = ["{}", "null", "[]", "1", "true", '{"toString":1}', "[[]]", "-0"]


async def test_cve_2020_36048_a_body_of_tiny_packets(server: ServerProcess) -> None:
    bodies = [b"\x1e".join([b"3"] * (MAX_PAYLOAD // 2)), b"\x1e" * MAX_PAYLOAD, b"\x1e".join([b"42"] * 40_000)]
    await request(server.port, "POST", (await poll_session(server.port, "/socket.io/"))[1], bodies[0])
    before = resident(server.pid)
    for body in bodies:
        _, session = await poll_session(server.port, "/socket.io/")
        assert (await request(server.port, "POST", session, body)).status == 400
        assert (await request(server.port, "GET", session)).status == 400
    assert resident(server.pid) < before + 10 * MAX_PAYLOAD
    _, session = await poll_session(server.port, "/socket.io/")
    assert (await request(server.port, "POST", session, b"\x1e".join([b"40"] + [b"6"] * (PACKETS - 1)))).status == 200


async def test_cve_2022_21676_requests_that_raised_outside_any_handler(server: ServerProcess) -> None:
    values = ["constructor", "__proto__", "toString", "websocket", "polling", "", "%00", "a" * 5000, "[]", "%ff"]
    queries = [f"EIO=4&transport={value}" for value in values] + [f"EIO={value}&transport=polling" for value in values]
    queries += [f"EIO=4&transport=polling&sid={value}" for value in values] + [
        "EIO=4&transport[]=polling",
        "&&&&",
        "=",
        "%",
    ]
    async with good_client(server.port, "ui/456/beside-queries") as good:
        for query in queries:
            target = f"/socket.io/?{query}".encode()
            for data in (
                b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                upgrade(target, host=b"x"),
            ):
                answer = await raw(server.port, data)
                known = (b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 101")
                assert answer.startswith(known), (query, answer)
            await good.exchange()


async def test_cve_2022_41940_an_upgrade_that_ends_abruptly(server: ServerProcess) -> None:
    """At each step of the probe the WebSocket is reset, then the polling session is left as well."""
    loop = asyncio.get_running_loop()
    async with good_client(server.port, "ui/456/beside-upgrades") as good:
        for steps in (
            [],
            [b"2probe"],
            [b"2probe", b"5"],
            [b"2probe", b"5", b"40"],
            [b"5"],
            [b"x"],
            [b"2probe", b"2probe"],
        ):
            _, session = await poll_session(server.port, "/socket.io/")
            poll = asyncio.create_task(request(server.port, "GET", session))
            with socket.create_connection(("127.0.0.1", server.port)) as cut:
                cut.setblocking(False)
                cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                target = session.replace("polling", "websocket").encode()
                await loop.sock_sendall(
                    cut, upgrade(target, host=b"127.0.0.1") + b"".join(frame(1, step) for step in steps)
                )
                await loop.sock_recv(cut, 10)
            await good.exchange()
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
        await good.exchange()
    assert (await metrics(server.port))["smart_router_socketio_handler_errors_total"] == 0


@pytest.mark.parametrize("number", PLACEHOLDERS)
async def test_cve_2022_2421_placeholders_of_any_type(server: ServerProcess, number: str) -> None:
    async with open_websocket(server.port, SOCKETIO) as hostile:
        await join(hostile, "/ui/456", {})
        await hostile.receive()
        hostile.send(f'451-/ui/456,["echo",{{"_placeholder":true,"num":{number}}}]')
        hostile.send(b"x")
        with pytest.raises(Closed):
            await hostile.receive()


@pytest.mark.parametrize("name", EVENT_NAMES)
async def test_cve_2023_32695_event_names_of_any_type(server: ServerProcess, name: str) -> None:
    for packet in (f"42/ui/456,[{name}]", f"42/ui/456,1[{name},{{}}]", f"451-/ui/456,[{name}]"):
        async with open_websocket(server.port, SOCKETIO) as hostile:
            await join(hostile, "/ui/456", {})
            await hostile.receive()
            hostile.send(packet)
            hostile.send(b"x")
            with pytest.raises(Closed):
                await hostile.receive()


@pytest.mark.parametrize("count", ["0", "11", "1000000000", "", "-1", "1e1", "٣"])
async def test_cve_2026_33151_attachments_without_number(server: ServerProcess, count: str) -> None:
    async with open_websocket(server.port, SOCKETIO) as hostile:
        await join(hostile, "/ui/456", {})
        await hostile.receive()
        hostile.send(f'45{count}-/ui/456,["echo",{{"_placeholder":true,"num":0}}]')
        with pytest.raises(Closed):
            await hostile.receive()


@pytest.mark.parametrize("count", [1, 10])
async def test_as_many_attachments_as_there_may_be(server: ServerProcess, count: int) -> None:
    async with open_websocket(server.port, SOCKETIO) as client:
        await join(client, "/ui/456", {"actor": f"ui/456/attached-{count}"})
        places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(count))
        message = f'{{"ids":{{"default":"ui/456/attached-{count}"}},"payload":[{places}]}}'
        client.send(f'45{count}-/ui/456,["echo",{message}]')
        for number in range(count):
            client.send(bytes([number]))
        received: list[bytes] = []
        async with asyncio.timeout(10):
            while len(received) < count:
                data = await client.receive()
                if isinstance(data, bytes):
                    received.append(data)
        assert received == [bytes([number]) for number in range(count)]


async def test_cve_2026_48804_half_a_binary_message(server: ServerProcess) -> None:
    """Before CONNECT nothing is kept at all; after it, nothing outlives the connection."""

    async def half(connected: bool) -> None:
        async with open_websocket(server.port, SOCKETIO) as hostile:
            await hostile.receive()
            if connected:
                await join(hostile, "/ui/456", {})
            hostile.send('452-/ui/456,["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
            hostile.send(bytes(65_000))
            if not connected:
                assert await hostile.closed() == 1002

    for _ in range(50):
        await asyncio.gather(half(connected=False), half(connected=True))
    before = resident(server.pid)
    for _ in range(100):
        await asyncio.gather(half(connected=False), half(connected=True))
    assert resident(server.pid) < before + 5_000_000  # 13 MB were half sent


async def test_cve_2016_10518_a_ping_comes_back_as_it_was(server: ServerProcess) -> None:
    for target in (b"/ws", SOCKETIO.encode()):
        pings = [bytes(range(size)) for size in range(126)]
        answer = await raw(server.port, upgrade(target, host=b"x") + b"".join(frame(9, ping) for ping in pings))
        assert b"".join(frame(10, ping, masked=False) for ping in pings) in answer


@pytest.mark.parametrize("reason", [b"", b"bye", "Grüße".encode(), b"x" * 123])
async def test_cve_2026_45736_a_close_comes_back_as_it_was(server: ServerProcess, reason: bytes) -> None:
    for target in (b"/ws", SOCKETIO.encode()):
        answer = await raw(server.port, upgrade(target, host=b"x") + frame(8, b"\x0f\xa0" + reason), end=False)
        assert answer.endswith(frame(8, b"\x0f\xa0", masked=False)) or answer.endswith(
            frame(8, b"\x0f\xa0" + reason, masked=False)
        )


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("filler", [b" ", b",", b", ", b";", b"\t", b"a,", b'"'])
async def test_cve_2021_32640_headers_of_nothing_but_separators(
    server: ServerProcess, header: str, filler: bytes
) -> None:
    """Over the limit of a head it is never looked at; within it, it is answered like any other."""
    long = upgrade(b"/ws", **{"host": b"x", header: b"a" + filler * (100_000 // len(filler)) + b"a"})
    assert (await raw(server.port, long)).startswith(b"HTTP/1.1 431")
    short = upgrade(b"/ws", **{"host": b"x", header: b"a" + filler * (15_000 // len(filler)) + b"a"})
    assert (await raw(server.port, short)).startswith((b"HTTP/1.1 101", b"HTTP/1.1 4"))


@pytest.mark.parametrize(
    "offers",
    [
        b"constructor; __proto__=1",
        b"__proto__",
        b"hasOwnProperty, toString; valueOf",
        b", ".join(b"x%d; a=b" % number for number in range(1000)),
        b"permessage-deflate" + b"; server_max_window_bits=15" * 300,
        b'permessage-deflate; client_max_window_bits="15\\"',
    ],
)
async def test_ws_2017_extension_offers(server: ServerProcess, offers: bytes) -> None:
    answer = await raw(server.port, upgrade(b"/ws", host=b"x", sec_websocket_extensions=offers) + frame(8))
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in answer.lower()


async def test_cve_2025_69223_an_encoded_body_is_not_decoded(guarded: ServerProcess) -> None:
    before = resident(guarded.pid)
    bomb = zlib.compress(b'{"subject":"' + b"a" * 50_000_000 + b'"}', 9)
    headers = (
        ("authorization", f"Bearer {ADMIN}"),
        ("content-type", "application/json"),
        ("content-encoding", "deflate"),
    )
    assert (await request(guarded.port, "POST", "/revocations", bomb[:60_000], headers)).status == 400
    assert resident(guarded.pid) < before + 10_000_000


async def test_cve_2024_23334_nothing_outside_of_what_is_served(server: ServerProcess) -> None:
    paths = [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/\\..\\x",
        "/%00",
    ]
    for path in [*paths, "/file:///etc/passwd", "/.git/config", "/smart-router.toml", "/data/journal"]:
        answer = await raw(server.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), path
        assert b"root:" not in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2] or b"{}").get("code", "not_found") == "not_found"
