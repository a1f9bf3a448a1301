"""Limits of connections, storms, exhausted descriptors, draining and closing."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

import pytest

from smart_router.gateways.listener import Listener, ListenerSettings, ListenerStatistics
from smart_router.gateways.request import HttpRequest, Refusal
from tests.gateways.raw import Client, Recorder, application, connect, frame, listening, upgrade, websocket

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_the_limit_in_all_is_503_with_retry_after() -> None:
    async with listening(ListenerSettings(port=0, connections=2, retry_after=7)) as server:
        async with connect(server) as first, websocket(server), connect(server) as third:
            status, head, _ = await third.response()
            assert (status, b"retry-after: 7" in head) == (503, True)
            assert await third.rest() == b""
            first.send(GET)
            assert (await first.response())[0] == 200
        await server.until(lambda: server.listener.statistics().connections == 0)
        async with connect(server) as again:
            again.send(GET)
            assert (await again.response())[0] == 200
        assert server.listener.statistics().connections_refused == 1


async def test_the_limit_per_address() -> None:
    settings = ListenerSettings(port=0, connections_per_address=1, limit_loopback=True)
    async with listening(settings) as server, connect(server), connect(server) as second:
        assert (await second.response())[0] == 503
        async with connect(server, local_addr=("127.0.0.2", 0)) as elsewhere:
            elsewhere.send(GET)
            assert (await elsewhere.response())[0] == 200


async def test_loopback_has_no_limit_of_its_own() -> None:
    settings = ListenerSettings(port=0, connections_per_address=1)
    async with listening(settings) as server, connect(server), connect(server) as second:
        second.send(GET)
        assert (await second.response())[0] == 200


async def test_of_too_many_half_open_connections_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smart_router.gateways.http._HALF_OPEN_AFTER", 0.05)
    async with listening(ListenerSettings(port=0, half_open_per_address=3)) as server:
        slow = [await asyncio.open_connection(*server.address) for _ in range(6)]
        for _, writer in slow:
            writer.write(b"GET / HT")
        closed = [await Client(*pair).response() for pair in slow[:3]]
        assert [answer[0] for answer in closed] == [408] * 3
        async with connect(server) as good:
            good.send(GET)
            assert (await good.response())[0] == 200
        for reader, writer in slow[3:]:
            writer.write(b"TP/1.1\r\nHost: x\r\n\r\n")
            assert (await Client(reader, writer).response())[0] == 200
        assert server.listener.statistics().half_open_closed == 3
        for _, writer in slow:
            writer.close()


async def test_handshakes_take_turns_and_too_many_get_503() -> None:
    turns: list[int] = []
    turn = 0

    def decide(_: HttpRequest) -> Recorder:
        turns.append(turn)
        return Recorder()

    async with listening(ListenerSettings(port=0, handshakes_at_once=2), decide=decide) as server:
        clients = [socket.create_connection(server.address) for _ in range(60)]
        for client in clients:
            client.setblocking(False)
            client.send(upgrade())
        loop = asyncio.get_running_loop()
        answers = []
        for client in clients:
            answers.append(await loop.sock_recv(client, 100))
            turn += 1
            client.close()
        statuses = [answer[9:12] for answer in answers]
        assert set(statuses) <= {b"101", b"503"}
        assert statuses.count(b"101") >= 22
        assert server.listener.statistics().handshakes_waiting == 0


async def test_the_gateway_may_refuse_an_upgrade() -> None:
    def decide(request: HttpRequest) -> Refusal:
        return Refusal(404, ((b"x-why", b"because"),), request.path.encode())

    async with listening(decide=decide) as server, connect(server) as client:
        client.send(upgrade(b"/nowhere"))
        status, head, body = await client.response()
        assert (status, b"x-why: because" in head, body) == (404, True, b"/nowhere")


async def test_a_gateway_that_raises_refuses_with_500() -> None:
    def decide(_: HttpRequest) -> Refusal:
        raise RuntimeError("the gateway's fault")

    async with listening(decide=decide) as server, connect(server) as client:
        client.send(upgrade())
        assert (await client.response())[0] == 500
        assert [line["event"] for line in server.lines] == ["websocket_decision_error", "http_refused"]


async def test_exhausted_descriptors_harm_nobody_and_pass() -> None:
    """C12: what can't be accepted is closed or waits, without spinning; then all is well again."""
    async with listening() as server, websocket(server) as client:
        "x".encode("idna")  # imported on first use, which takes a descriptor
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        extra = [socket.socket() for _ in range(40)]
        used = max(item.fileno() for item in extra) + 1
        for item in extra:
            item.setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, before[1]))
        try:
            loop = asyncio.get_running_loop()
            for item in extra:
                await loop.sock_connect(item, server.address)
            cpu = resource.getrusage(resource.RUSAGE_SELF)
            started = loop.time()
            while loop.time() < started + 0.5:
                client.send(frame(1, b"echo"))
                assert await client.frame() == (1, b"echo")
                await asyncio.sleep(0.01)
            spent = resource.getrusage(resource.RUSAGE_SELF)
            assert spent.ru_stime + spent.ru_utime - cpu.ru_stime - cpu.ru_utime < 0.25
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for item in extra:
            item.close()
        async with connect(server) as again:
            again.send(GET)
            assert (await again.response())[0] == 200


async def test_drain_lets_answers_finish_and_accepts_nobody() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await release.wait()
        await application(scope, receive, send)

    async with listening(app=app) as server, connect(server) as slow, connect(server) as idle:
        idle.send(GET)
        await idle.response()
        slow.send(GET.replace(b"/ ", b"/slow "))
        await server.until(lambda: server.listener.statistics().requests == 2)
        async with websocket(server) as chat:
            draining = asyncio.create_task(server.listener.drain(10))
            assert await idle.rest() == b""
            with pytest.raises(OSError, match="refused"):
                await asyncio.open_connection(*server.address)
            release.set()
            status, head, _ = await slow.response()
            assert (status, b"connection: close" in head) == (200, True)
            chat.send(frame(1, b"echo"))
            assert await chat.frame() == (1, b"echo")
            assert not draining.done()
            socket_ = server.recorders[0].socket
            assert socket_ is not None
            socket_.close(1012)
            assert await chat.close_code() == 1012
            chat.send(frame(8, b"\x03\xf4"))
            await asyncio.wait_for(draining, 10)


async def test_drain_ends_with_its_time_and_close_closes_the_rest() -> None:
    async with listening() as server, websocket(server) as chat, connect(server) as half:
        half.send(b"GET / HT")
        await server.until(lambda: server.listener.statistics().connections == 2)
        await server.listener.drain(0.01)
        closing = asyncio.create_task(server.listener.close())
        assert await chat.close_code() == 1001
        chat.send(frame(8, b"\x03\xe9"))
        await asyncio.wait_for(closing, 5)
        assert server.listener.statistics().connections == 0
        assert server.recorders[0].events[-1] == ("closed", 1001, "")


async def test_close_ends_a_pending_long_poll() -> None:
    gone: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not gone:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.append(scope["path"])

    async with listening(app=app) as server, connect(server) as client:
        client.send(GET)
        await server.until(lambda: server.listener.statistics().requests == 1)
        await server.listener.close()
        assert gone == ["/"]


async def test_a_taken_port_is_an_error() -> None:
    async with listening() as server:
        other = Listener(ListenerSettings(port=server.address[1]), application, lambda _: Recorder())
        assert other.statistics() == ListenerStatistics(*[0] * len(ListenerStatistics._fields))
        with pytest.raises(OSError, match="in use"):
            await other.start()
        await other.close()


async def test_ipv6_where_there_is_one() -> None:
    try:
        async with (
            listening(ListenerSettings(port=0, host="::1")) as server,
            websocket(server, frame(1, b"echo")) as client,
        ):
            assert await client.frame() == (1, b"echo")
    except OSError:
        pytest.skip("no IPv6 loopback here")
