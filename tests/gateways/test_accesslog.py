"""`[log] access`: what stands in it, and what never does."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from smart_router.gateways.listener import ListenerSettings
from tests.gateways.raw import connect, frame, listening, websocket

GET = b"GET /check?token=eyJsecret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer eyJsecret\r\n\r\n"
LINES = ("http_request", "connected", "disconnected")


def of_access(lines: list[Any]) -> list[dict[str, Any]]:
    return [dict(line) for line in lines if line["event"] in LINES]


async def test_a_line_for_each_request_and_two_for_each_websocket() -> None:
    with capture_logs() as lines:
        async with listening(ListenerSettings(port=0, access_log=True)) as server:
            async with connect(server) as client:
                client.send(GET)
                await client.response()
            async with websocket(server) as client:
                client.send(frame(8, b"\x03\xe8"))
                await client.close_code()
            await server.until(lambda: server.listener.statistics().connections == 0)
    request, connected, disconnected = of_access(lines)
    assert request.pop("ms") >= 0
    common = {"log_level": "info", "peer": "127.0.0.1"}
    assert request == {**common, "event": "http_request", "method": "GET", "path": "/check", "status": 200}
    assert connected == {**common, "event": "connected", "path": "/ws"}
    assert disconnected == {**common, "event": "disconnected", "path": "/ws", "code": 1000}


@pytest.mark.parametrize("access", [True, False])
async def test_only_when_asked_for(access: bool) -> None:
    with capture_logs() as lines:
        async with listening(ListenerSettings(port=0, access_log=access)) as server, connect(server) as client:
            client.send(GET)
            await client.response()
    assert bool(of_access(lines)) == access
    assert "secret" not in repr(lines)
