from __future__ import annotations

import asyncio
import http

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from smart_router.client.errors import Cut
from smart_router.client.settings import ClientSettings
from smart_router.client.transport import open_websocket
from smart_router.protocols.plain_close import CloseCode
from tests.client.peer import Peer


@pytest.mark.parametrize(
    ("status", "headers", "code", "delay"),
    [
        (401, {}, CloseCode.UNAUTHORIZED, None),
        (403, {}, CloseCode.FORBIDDEN, None),
        (404, {}, CloseCode.PROTOCOL_ERROR, None),
        (429, {"Retry-After": "7"}, CloseCode.BUSY, 7.0),
        (503, {"Retry-After": "99999"}, CloseCode.BUSY, 3600.0),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, CloseCode.BUSY, None),
        (500, {}, CloseCode.BUSY, None),
    ],
)
async def test_the_answer_to_a_handshake_is_read_as_a_close_code(
    status: int, headers: dict[str, str], code: int, delay: float | None
) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(status, http.HTTPStatus(status).phrase, Headers({"Content-Length": "0", **headers}))

    async def never(connection: ServerConnection) -> None:
        raise AssertionError("refused, and yet connected")

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(Cut) as caught:
            await open_websocket(f"ws://127.0.0.1:{port}/ws", ClientSettings())
    assert (caught.value.code, caught.value.delay) == (code, delay)


async def test_nobody_listens(free_port: int) -> None:
    with pytest.raises(Cut) as caught:
        await open_websocket(f"ws://127.0.0.1:{free_port}/ws", ClientSettings())
    assert caught.value.code == 1006


async def test_a_frame_over_our_limit_ends_the_connection(peer: Peer) -> None:
    opening = asyncio.create_task(open_websocket(peer.url, ClientSettings(max_frame=100)))
    conversation = await peer.next()
    transport = await opening
    await conversation.write(b" " * 101)
    with pytest.raises(Cut):
        await transport.receive()
    with pytest.raises(Cut):
        await transport.send(b"{}")


async def test_a_server_that_stops_answering_pings_counts_as_cut(peer: Peer) -> None:
    opening = asyncio.create_task(
        open_websocket(peer.url, ClientSettings(ping_interval=0.01, ping_timeout=0.01, drain=0.01))
    )
    conversation = await peer.next()
    transport = await opening
    conversation.connection.transport.pause_reading()
    with pytest.raises(Cut) as caught:
        await transport.receive()
    assert caught.value.code == 1006
    conversation.cut()
