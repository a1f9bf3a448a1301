"""A9: what one connection may cost, at each limit and one over it, with the code that says so."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_router.gateways.proxy import PROXY_SIGNATURE
from tests.conftest import StartServer
from tests.gateways.engine_clients import Closed, RawWebSocket, open_websocket
from tests.processes import ROOT, ServerProcess, serve
from tests.security.ports import SOCKETIO, check_log, configuration, good_client, join

__all__: list[str] = []

NAMESPACES = 32
WAITING = 64  # events of one connection behind a route that waits
SUBS = json.dumps([str(number) for number in range(NAMESPACES + 1)])
LIMITED = f"""
[server.limits]
fragments = 4
[endpoints.many]
sub_endpoints = {SUBS}
[endpoints.slow]
messages_per_second = 2
[endpoints.thin]
bytes_per_second = 1000
[endpoints.narrow]
max_message_size = 1000
"""
PROXIED = """
[server]
trusted_proxies = ["127.0.0.1"]
proxy_protocol = "v2"
[server.limits]
connections_per_address = 3
"""


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[ServerProcess]:
    place = ("--port", "0", "--data", str(folder / "limited"), "--drain", "0.1")
    server = serve(("--config", configuration(folder, LIMITED), *place), folder, "limited", {})
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
    check_log(server)


async def send(socket: RawWebSocket, actor: str, size: int, number: int) -> None:
    """A `send` of exactly `size` bytes of message."""
    message = json.dumps({"ids": {"default": actor}, "payload": ""}, separators=(",", ":"))
    message = message[:-2] + "x" * (size - len(message)) + message[-2:]
    assert len(message) == size
    socket.send(f'{{"op":"send","ref":{number},"type":"echo","message":{message}}}')


async def answers(socket: RawWebSocket, count: int) -> list[str]:
    """The codes of the answers in order of their numbers; `queued` or the like for those that were taken."""
    found: dict[int, str] = {}
    while len(found) < count:
        frame = json.loads(await socket.receive())
        if frame["op"] == "answer":
            found[frame["ref"]] = frame["answer"].get("error", {}).get("code") or "taken"
    return [found[number] for number in sorted(found)]


async def sends(server: ServerProcess, actor: str, sizes: list[int]) -> list[str]:
    async with open_websocket(server.port, "/ws") as socket:
        await socket.receive()
        socket.send(json.dumps({"op": "identify", "actor": actor, "acks": True}))
        assert json.loads(await socket.receive())["op"] == "hello"
        for number, size in enumerate(sizes):
            await send(socket, actor, size, number)
        return await answers(socket, len(sizes))


async def test_messages_a_second(limited: ServerProcess) -> None:
    assert await sends(limited, "slow/a", [100, 100, 100]) == ["taken", "taken", "rate_limited"]


async def test_bytes_a_second(limited: ServerProcess) -> None:
    assert await sends(limited, "thin/a", [600, 400]) == ["taken", "taken"]
    assert await sends(limited, "thin/b", [600, 600]) == ["taken", "rate_limited"]


async def test_bytes_of_a_message(limited: ServerProcess) -> None:
    assert await sends(limited, "narrow/a", [1000, 1001]) == ["taken", "too_large"]


async def test_namespaces_of_a_connection(limited: ServerProcess) -> None:
    async with open_websocket(limited.port, SOCKETIO) as socket:
        for number in range(NAMESPACES):
            assert (await join(socket, f"/many/{number}", {})).startswith(f"40/many/{number},")
        refused = await join(socket, f"/many/{NAMESPACES}", {})
        assert json.loads(refused.partition(",")[2])["data"]["code"] == "too_many_namespaces"
        socket.send('42/many/0,1["iam","many/0/x"]')  # the others go on
        async with asyncio.timeout(5):
            while not str(await socket.receive()).startswith("43/many/0,1[{}]"):
                pass


@pytest.mark.parametrize(("fragments", "taken"), [(4, True), (5, False)])
async def test_fragments_of_a_message(limited: ServerProcess, fragments: int, taken: bool) -> None:
    async with open_websocket(limited.port, "/ws") as socket:
        await socket.receive()
        ping = b'{"op":"ping"}'
        for number in range(fragments):
            last = number == fragments - 1
            socket.frame(0 if number else 1, ping[number:] if last else ping[number : number + 1], 0x80 if last else 0)
        if taken:
            assert json.loads(await socket.receive())["op"] == "pong"
        else:
            assert await socket.closed() == 1009


async def test_connections_of_an_address(start_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, "--config", configuration(tmp_path, PROXIED), "--drain", "0.1")
    writers = []

    async def connect(address: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(writer)
        places = ipaddress.ip_address(address).packed + ipaddress.ip_address("127.0.0.1").packed + b"\x10\x00\x10\x01"
        writer.write(PROXY_SIGNATURE + b"\x21\x11\x00\x0c" + places)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return await reader.readuntil(b"\r\n\r\n")

    for _ in range(3):
        assert (await connect("192.0.2.1")).startswith(b"HTTP/1.1 200")
    refused = await connect("192.0.2.1")
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"retry-after" in refused
    assert (await connect("192.0.2.2")).startswith(b"HTTP/1.1 200")
    for writer in writers:
        writer.close()


async def test_loopback_has_no_limit_of_its_own(server: ServerProcess) -> None:
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(1001)]
    async with good_client(server.port, "ui/456/beside") as good:
        await good.exchange()
    for _, writer in opened:
        writer.close()


async def test_events_that_wait_stop_the_reading_and_are_never_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Behind a route that waits: what a client sends beyond the bound stays in its own socket, then all is routed."""
    place = {"PYTHONPATH": str(ROOT)}
    server = await asyncio.to_thread(start_server, "tests.security.faulty:app", "--drain", "0.1", environment=place)
    count = 5 * WAITING
    padding = "x" * 30_000
    async with open_websocket(server.port, "/ws") as stalled, open_websocket(server.port, "/ws") as other:
        for socket, actor in ((stalled, "ui/456/stalled"), (other, "ui/456/other")):
            await socket.receive()
            socket.send(json.dumps({"op": "identify", "actor": actor, "acks": True}))
            assert json.loads(await socket.receive())["op"] == "hello"
        stalled.send('{"op":"send","ref":0,"type":"wait","message":{"ids":{"default":"ui/456/nobody"}}}')
        sending = asyncio.create_task(send_all(stalled, count, padding))
        done, _ = await asyncio.wait([sending], timeout=1)
        assert not done, "the server has read all of it"
        other.send('{"op":"send","ref":1,"type":"release","message":{"ids":{}}}')
        assert await answers(stalled, count + 1) == ["taken"] * (count + 1)
        await sending


async def send_all(socket: RawWebSocket, count: int, padding: str) -> None:
    message = f'{{"ids":{{"default":"ui/456/nobody"}},"payload":"{padding}"}}'
    for number in range(1, count + 1):
        socket.send(f'{{"op":"send","ref":{number},"type":"echo","message":{message}}}')
        await socket.writer.drain()


async def test_more_than_a_gateway_reads_of_one_message(server: ServerProcess) -> None:
    async with open_websocket(server.port, "/ws") as socket:
        await socket.receive()
        socket.send("x" * 131_072)
        assert json.loads(await socket.receive())["op"] == "error"  # read, and not understood
    async with open_websocket(server.port, "/ws") as socket:
        await socket.receive()
        socket.send("x" * 131_073)
        with pytest.raises(Closed) as closed:
            await socket.receive()
        assert closed.value.code == 1009
