"""HTTP/1.1 as it should be: keep-alive, bodies, long polls, deadlines, the way to WebSocket on the same connection."""

from __future__ import annotations

import asyncio
from typing import Any

from smart_router.gateways.listener import ListenerSettings
from smart_router.gateways.request import HttpRequest
from tests.gateways.raw import Recorder, connect, frame, listening, upgrade

GET = b"GET /a%20b?x=1 HTTP/1.1\r\nHost: Test.Example\r\n\r\n"


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with listening() as server, connect(server) as client:
        for _ in range(3):
            client.send(GET)
            assert (await client.response())[2] == b"GET /a b 0"
        client.send(GET + GET + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + GET)
        bodies = [(await client.response())[2] for _ in range(4)]
        assert bodies == [b"GET /a b 0", b"GET /a b 0", b"POST / 3", b"GET /a b 0"]
        statistics = server.listener.statistics()
        assert (statistics.requests, statistics.answers, statistics.accepted) == (7, 7, 1)


async def test_http_1_0_is_answered_and_closed() -> None:
    async with listening() as server, connect(server) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        status, head, _ = await client.response()
        assert (status, b"connection: close" in head) == (200, True)
        assert await client.rest() == b""


async def test_chunks_one_byte_each_with_extensions_and_trailers() -> None:
    body = b"1;name=value\r\nx\r\n" * 3000 + b"0\r\nX-Trailer: y\r\n\r\n"
    async with listening() as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + GET)
        assert (await client.response())[2] == b"POST / 3000"
        assert (await client.response())[2] == b"GET /a b 0"


async def test_100_continue_comes_when_the_body_is_asked_for() -> None:
    async with listening() as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert (await client.response())[2] == b"POST / 3"


async def test_an_upgrade_to_something_else_is_answered_as_http() -> None:
    async with listening() as server, connect(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n")
        status, head, _ = await client.response()
        assert (status, b"connection: close" in head) == (200, True)
        assert await client.rest() == b""


async def test_websocket_named_without_connection_is_an_ordinary_request() -> None:
    async with listening() as server, connect(server) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response())[0] == 200


async def test_the_application_gets_the_request_description() -> None:
    seen: list[HttpRequest] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["smart_router.request"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(app=app) as server, connect(server) as client:
        client.send(GET)
        await client.head()
        request = seen[0]
        assert (request.path, request.query, request.peer) == ("/a b", b"x=1", "127.0.0.1")
        assert (request.scheme, request.host, request.header(b"host")) == ("http", "test.example", b"Test.Example")


async def test_a_client_that_leaves_a_long_poll_is_noticed_at_once() -> None:
    messages: list[str] = []
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            messages.append((await receive())["type"])
            if messages[-1] == "http.disconnect":
                left.set()
                return

    async with listening(app=app) as server:
        async with connect(server) as client:
            client.send(GET)
            await server.until(lambda: messages == ["http.request"])
        async with asyncio.timeout(2):
            await left.wait()
        assert server.listener.statistics().connections == 0


async def test_an_application_that_raises_costs_its_own_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret payload")

    async with listening(app=app) as server, connect(server) as client:
        client.send(GET)
        status, _, body = await client.response()
        assert (status, body) == (500, b"internal server error") or body == b"Internal Server Error"
        assert [line["event"] for line in server.lines] == ["http_application_error"]


async def test_the_answer_may_come_before_the_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with listening(app=app) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        assert (await client.response())[0] == 200
        client.send(b"cd" + GET)
        assert (await client.response())[0] == 200


async def test_a_request_that_was_answered_before_its_body_gets_no_second_answer() -> None:
    async def early(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with listening(ListenerSettings(port=0, body_bytes=1000), app=early) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        assert (await client.response())[2] == b"ok"
        client.send(b"7d0\r\n" + b"x" * 2000)
        assert await client.rest() == b""
        assert server.listener.statistics().requests_refused == 1


async def test_an_upgrade_on_a_kept_alive_connection_with_bytes_behind_it() -> None:
    async with listening() as server, connect(server) as client:
        client.send(GET)
        await client.response()
        client.send(upgrade(connection=b"keep-alive, Upgrade") + frame(1, b"echo 1") + frame(1, b"echo 2")[:3])
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.frame() == (1, b"echo 1")
        client.send(frame(1, b"echo 2")[3:] + frame(1, b"echo 3"))
        assert [await client.frame() for _ in range(2)] == [(1, b"echo 2"), (1, b"echo 3")]


async def test_an_upgrade_right_behind_a_request_waits_for_its_answer() -> None:
    async with listening() as server, connect(server) as client:
        client.send(GET + GET + upgrade() + frame(1, b"echo"))
        assert [(await client.response())[2] for _ in range(2)] == [b"GET /a b 0"] * 2
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.frame() == (1, b"echo")


async def test_a_subprotocol_is_chosen_from_the_offers() -> None:
    def decide(request: HttpRequest) -> Recorder:
        assert request.subprotocols == ("b.v1", "a.v2")
        request.subprotocol = "a.v2"
        return Recorder()

    async with listening(decide=decide) as server, connect(server) as client:
        client.send(upgrade(sec_websocket_protocol=b"b.v1 , a.v2", sec_websocket_extensions=b"permessage-deflate"))
        head = await client.head()
        assert b"Sec-WebSocket-Protocol: a.v2\r\n" in head
        assert b"xtensions" not in head


async def test_strange_extension_offers_are_ignored() -> None:
    offers = [b"constructor; __proto__=1", b", ".join([b"x; y=1"] * 1000), b" " * 10_000 + b",", b"," * 10_000]
    for offer in offers:
        async with listening() as server, connect(server) as client:
            client.send(upgrade(sec_websocket_extensions=offer) + frame(1, b"echo"))
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.frame() == (1, b"echo")


def quick(**more: Any) -> ListenerSettings:
    return ListenerSettings(port=0, head_timeout=0.1, body_timeout=0.1, keep_alive=0.1, **more)


async def test_deadlines_of_head_body_and_keep_alive() -> None:
    async with listening(quick()) as server:
        async with connect(server) as client:
            client.send(b"GET / HTTP/1.1\r\nHo")
            assert (await client.response())[0] == 408
        async with connect(server) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")
            assert (await client.response())[0] == 408
            assert await client.rest() == b""
        async with connect(server) as client:
            client.send(GET)
            await client.response()
            assert await client.rest() == b""
        statistics = server.listener.statistics()
        assert (statistics.heads_late, statistics.bodies_late) == (1, 1)


async def test_an_answer_may_take_longer_than_every_deadline() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(None, released.acquire)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    import threading

    released = threading.Semaphore(0)
    async with listening(quick(), app=app) as server, connect(server) as patient:
        patient.send(GET)
        async with connect(server) as client:
            client.send(b"GET")
            assert (await client.response())[0] == 408  # a whole head_timeout later
        released.release()
        assert (await patient.response())[0] == 200
