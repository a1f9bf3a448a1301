"""A WebSocket as the gateway sees it: corking, closing from either side, flow control, faults of the handler."""

from __future__ import annotations

import asyncio
import socket as sockets
from typing import Any

import pytest

from smart_router.gateways.listener import ListenerSettings
from smart_router.gateways.websocket import WebSocket
from tests.gateways.raw import Recorder, Server, connect, frame, listening, upgrade, websocket


def opened(server: Server, index: int = 0) -> WebSocket:
    socket = server.recorders[index].socket
    assert socket is not None
    return socket


async def test_the_frames_of_one_turn_leave_in_one_write_with_the_last_words() -> None:
    async with listening() as server, websocket(server) as client:
        recorder, socket = server.recorders[0], opened(server)
        before = server.listener.statistics().writes
        recorder.last_words.append(b"barrier")
        for number in range(100):
            socket.send_text(b"a", b"", b"%d" % number)
        socket.send_binary(b"\xff")
        assert socket.buffered > 400
        assert [await client.frame() for _ in range(102)] == [
            *((1, b"a%d" % number) for number in range(100)),
            (2, b"\xff"),
            (9, b"barrier"),
        ]
        assert server.listener.statistics().writes == before + 1
        assert socket.buffered == 0
        client.send(frame(10, b"barrier"))
        assert await recorder.until("pong") == ("pong", b"barrier")


@pytest.mark.parametrize("size", [0, 125, 126, 1023, 1024, 65_535, 65_536, 200_000])
async def test_every_length_is_framed(size: int) -> None:
    async with listening() as server, websocket(server) as client:
        opened(server).send_text(b"x" * (size // 2), b"x" * (size - size // 2))
        opened(server).send_binary(b"y" * size)
        assert await client.frame() == (1, b"x" * size)
        assert await client.frame() == (2, b"y" * size)


async def test_our_close_waits_for_the_peers_and_delivers_nothing_more() -> None:
    async with listening() as server, websocket(server) as client:
        recorder, socket = server.recorders[0], opened(server)
        socket.send_text(b"last")
        socket.close(4001, "é" * 100)
        socket.send_text(b"too late")
        socket.ping()
        socket.close(1000)
        assert await client.frame() == (1, b"last")
        assert await client.frame() == (8, (4001).to_bytes(2, "big") + ("é" * 61).encode())
        client.send(frame(1, b"ignored") + frame(9, b"ignored") + frame(8, b"\x03\xe8"))
        assert await client.rest() == b""
        await recorder.done.wait()
        assert recorder.events == [("opened",), ("closed", 4001, "é" * 100)]


async def test_a_peer_that_does_not_answer_our_close_is_cut() -> None:
    async with listening(ListenerSettings(port=0, close_timeout=0.05)) as server, websocket(server) as client:
        opened(server).close(1012)
        assert await client.close_code() == 1012
        assert await client.rest() == b""
        assert await server.recorders[0].until("closed") == ("closed", 1012, "")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
async def test_a_code_that_may_not_be_sent_is_our_own_mistake(code: int) -> None:
    async with listening() as server, websocket(server):
        with pytest.raises(ValueError, match="may not stand"):
            opened(server).close(code)


async def test_a_ping_over_125_bytes_is_our_own_mistake() -> None:
    async with listening() as server, websocket(server):
        with pytest.raises(ValueError, match="125"):
            opened(server).ping(b"x" * 126)


async def test_abort_sends_no_close_frame() -> None:
    async with listening() as server, websocket(server, frame(1, b"abort") + frame(1, b"late")) as client:
        assert await client.rest() in (b"", b"reset")
        await server.recorders[0].done.wait()
        assert server.recorders[0].events == [("opened",), ("text", b"abort"), ("closed", 1006, "")]


async def test_a_peer_that_vanishes_is_1006() -> None:
    async with listening() as server:
        async with websocket(server, frame(1, b"x", fin=False)):
            pass
        assert await server.recorders[0].until("closed") == ("closed", 1006, "")
        await server.until(lambda: server.listener.statistics().connections == 0)


async def test_close_from_within_text_stops_what_came_behind() -> None:
    async with listening() as server, websocket(server, frame(1, b"close") + frame(1, b"late")) as client:
        assert await client.close_code() == 4000
        client.send(frame(8))
        await server.recorders[0].done.wait()
        assert server.recorders[0].events == [("opened",), ("text", b"close"), ("closed", 4000, "asked")]


async def test_a_handler_that_raises_costs_its_own_connection() -> None:
    async with listening() as server, websocket(server) as other, websocket(server, frame(1, b"raise")) as client:
        assert await client.close_code() == 1011
        assert await client.rest() == b""
        other.send(frame(1, b"echo"))
        assert await other.frame() == (1, b"echo")
        assert [line["event"] for line in server.lines] == ["websocket_handler_error"]
        assert server.listener.statistics().handler_errors == 1


async def narrow(server: Server) -> sockets.socket:
    """A WebSocket client that does not read, with the smallest buffer."""
    client = sockets.socket()
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, server.address)
    await loop.sock_sendall(client, upgrade())
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += await loop.sock_recv(client, 1)
    return client


async def test_a_stalled_reader_is_told_and_its_pings_cost_nothing() -> None:
    async with listening() as server:
        client = await narrow(server)
        recorder, socket = server.recorders[0], opened(server)
        while ("writable", False) not in recorder.events:
            socket.send_text(b"x" * 65_536)
            await asyncio.sleep(0)
        full = socket.buffered
        loop = asyncio.get_running_loop()
        for number in range(500):
            await loop.sock_sendall(client, frame(9, b"%d" % number))
        await server.until(lambda: server.listener.statistics().pings == 500)
        assert socket.buffered == full
        tail = b""
        while frame(10, b"499", masked=False) not in tail:
            tail = tail[-100:] + await loop.sock_recv(client, 65_536)
        assert frame(10, b"498", masked=False) not in tail
        assert ("writable", True) in recorder.events
        client.close()
        await recorder.done.wait()


async def test_a_stalled_reader_does_not_keep_its_connection_after_close() -> None:
    async with listening(ListenerSettings(port=0, close_timeout=0.05)) as server:
        client = await narrow(server)
        for _ in range(100):
            opened(server).send_text(b"x" * 65_536)
        opened(server).close(1000)
        await server.recorders[0].done.wait()
        await server.until(lambda: server.listener.statistics().connections == 0)
        client.close()


async def test_reading_can_be_paused() -> None:
    async with listening() as server, websocket(server) as client:
        socket, recorder = opened(server), server.recorders[0]
        socket.pause_reading()
        client.send(frame(1, b"echo 1"))
        async with websocket(server, frame(1, b"echo 2")) as other:
            assert await other.frame() == (1, b"echo 2")  # a round trip later
        assert recorder.events == [("opened",)]
        socket.resume_reading()
        assert await client.frame() == (1, b"echo 1")


async def test_a_paused_socket_closes_all_the_same() -> None:
    async with listening() as server, websocket(server) as client:
        opened(server).pause_reading()
        opened(server).close(1000)
        client.send(frame(8, b"\x03\xe8"))
        assert await client.close_code() == 1000
        assert await client.rest() == b""


async def test_large_messages_leave_no_large_buffer_and_lose_nothing() -> None:
    async with listening() as server, websocket(server) as client:
        for size in (100_000, 5, 100_000, 17_000, 3):
            message = b"echo" + b"x" * size
            client.send(frame(1, message) + frame(1, b"echo small"))
            assert await client.frame() == (1, message)
            assert await client.frame() == (1, b"echo small")
            client.send(frame(1, message))
            assert await client.frame() == (1, message)


async def test_ten_thousand_pongs_start_no_task() -> None:
    settings = ListenerSettings(port=0, control_frames_per_second=20_000)
    async with listening(settings) as server, websocket(server) as client:
        tasks = len(asyncio.all_tasks())
        client.send(frame(10, b"p") * 10_000 + frame(1, b"echo"))
        assert await client.frame() == (1, b"echo")
        assert len(asyncio.all_tasks()) == tasks
        assert server.listener.statistics().pongs == 10_000


async def test_pongs_that_were_asked_for_are_no_flood() -> None:
    settings = ListenerSettings(port=0, control_frames_per_second=10)
    async with listening(settings) as server, websocket(server) as client:
        for _ in range(50):
            opened(server).ping(b"b")
        for _ in range(50):
            assert await client.frame() == (9, b"b")
        client.send(frame(10, b"b") * 50 + frame(1, b"echo"))
        assert await client.frame() == (1, b"echo")


async def test_max_message_may_be_chosen_for_a_path() -> None:
    def decide(request: Any) -> Recorder:
        request.max_message = 10
        return Recorder()

    async with listening(decide=decide) as server, connect(server) as client:
        client.send(upgrade() + frame(1, b"echo 67890") + frame(1, b"x" * 11))
        await client.head()
        assert await client.frame() == (1, b"echo 67890")
        assert await client.close_code() == 1009
