"""The conformance app behind a real Listener on a free port, without the program around it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from smart_router.clock import Deadlines, SystemClock
from smart_router.config.schema import GatewaySettings
from smart_router.gateways.bare import BareEngineGateway, BareWebSocketGateway
from smart_router.gateways.base import BinaryApplication
from smart_router.gateways.listener import Listener, ListenerSettings
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.socketio import SocketIOGateway
from tests.processes import ROOT

__all__ = ["Served", "conformance", "served"]


def _load() -> Any:
    name = "examples_conformance"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / "conformance" / "conformance.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


conformance: Any = _load()


class Served(NamedTuple):
    port: int
    socketio: SocketIOGateway
    engineio: BareEngineGateway
    websocket: BareWebSocketGateway
    listener: Listener


@contextlib.asynccontextmanager
async def served(
    application: BinaryApplication | None = None,
    *,
    ping_interval: float = 0.3,
    ping_timeout: float = 0.2,
    connect_timeout: float = 1.0,
    max_payload: int = 1_000_000,
    origins: tuple[str, ...] = (),
    websocket_ping: float = 25.0,
) -> AsyncIterator[Served]:
    """All gateways of the conformance app, `application` in the place of its Socket.IO part."""
    clock = SystemClock()
    deadlines = Deadlines(clock, asyncio.get_running_loop().call_at)

    def settings(kind: Any, path: str) -> GatewaySettings:
        return GatewaySettings(
            kind=kind,
            path=path,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            connect_timeout=connect_timeout,
            max_payload=max_payload,
        )

    app = application if application is not None else conformance.Conformance()
    socketio = SocketIOGateway(settings("socketio", "/socket.io/"), app, deadlines, clock, origins=OriginRule(origins))
    engineio = BareEngineGateway(settings("engineio", "/engine.io/"), conformance.Echo(), deadlines, clock)
    bare = GatewaySettings(
        kind="websocket", path="/ws", max_payload=67_108_864, ping_interval=websocket_ping, ping_timeout=0.1
    )
    websocket = BareWebSocketGateway(bare, conformance.Echo(), deadlines, clock)
    by_path: dict[str, Any] = {"/socket.io/": socketio, "/engine.io/": engineio, "/ws": websocket}

    async def http(scope: Any, receive: Any, send: Any) -> None:
        gateway = by_path.get(scope["path"])
        if gateway is not None and hasattr(gateway, "asgi"):
            await gateway.asgi(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def websockets(request: HttpRequest) -> Any:
        gateway = by_path.get(request.path)
        return gateway.websocket(request) if gateway is not None else Refusal(404)

    listener = Listener(
        ListenerSettings(port=0, body_bytes=2 * max_payload, close_timeout=0.5, origins=origins),
        http,
        websockets,
        deadlines=deadlines,
    )
    await listener.start()
    try:
        yield Served(listener.addresses[0][1], socketio, engineio, websocket, listener)
    finally:
        socketio.close()
        engineio.close()
        websocket.close()
        await listener.close()
        deadlines.close()
