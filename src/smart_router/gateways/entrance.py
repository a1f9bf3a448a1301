"""The node's port: which gateway serves which path, and the order in which they stop."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from smart_router.clock import Clock, Deadlines
from smart_router.config.attribute import load_attribute
from smart_router.config.schema import LimitSettings, Settings
from smart_router.gateways.bare import BareEngineGateway, BareWebSocketGateway
from smart_router.gateways.base import Application
from smart_router.gateways.listener import Application as AsgiApplication
from smart_router.gateways.listener import Listener, ListenerSettings
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.plain import PlainGateway
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.socketio import SocketIOGateway
from smart_router.gateways.tls import server_context
from smart_router.gateways.websocket import WebSocketHandler

__all__ = ["Entrance", "Gateway"]


_PROBES: Final = ("/healthz", "/readyz")


class Gateway(Protocol):
    """One protocol on one path."""

    def websocket(self, request: HttpRequest) -> WebSocketHandler | Refusal: ...

    async def drain(self, seconds: float) -> None: ...

    def statistics(self) -> Any: ...


_ENGINE: Final[dict[str, Any]] = {"socketio": SocketIOGateway, "engineio": BareEngineGateway}


class Entrance:
    """Listener and gateways of one node. What no gateway serves goes to the HTTP API."""

    def __init__(
        self,
        settings: Settings,
        application: Application,
        api: AsgiApplication,
        deadlines: Deadlines,
        clock: Clock,
    ) -> None:
        server, open_to_all = settings.server, not settings.auth.enabled
        self._api = api
        self._gateways: dict[str, Gateway] = {}
        gateways = server.gateways if "gateway" in settings.roles else []  # without that role: the HTTP API only
        self._kinds = {each.path: each.kind for each in gateways}
        origins = OriginRule(server.origins, server.require_origin, addresses_only=open_to_all)
        for each in gateways:
            served: Any = application if each.handler is None else load_attribute(each.handler)
            made: Gateway
            if each.kind == "plain":
                made = PlainGateway(each, served, deadlines, clock, server.limits)
            elif each.kind == "websocket":
                made = BareWebSocketGateway(each, served, deadlines, clock)
            else:
                made = _ENGINE[each.kind](each, served, deadlines, clock, server.limits, origins)
            self._gateways[each.path] = made
        self._listener = Listener(_listener_settings(settings), self._serve, self._websocket, deadlines=deadlines)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return self._listener.addresses

    async def start(self) -> None:
        await self._listener.start()

    async def drain(self, seconds: float) -> None:
        """Nobody new is let in; every gateway sends its clients away within `seconds`, answers under way are
        finished.
        """
        gateways = [gateway.drain(seconds) for gateway in self._gateways.values()]
        await asyncio.gather(self._listener.drain(seconds), *gateways)

    async def close(self) -> None:
        await self._listener.close()

    def parts(self) -> list[tuple[str, Any]]:
        """Statistics of the listener and each gateway, under its kind."""
        gateways = [(self._kinds[path], gateway.statistics()) for path, gateway in self._gateways.items()]
        return [("listener", self._listener.statistics()), *gateways]

    def _of(self, path: str) -> Gateway | None:
        found = self._gateways.get(path)
        return found if found is not None else self._gateways.get(path + "/")

    def _websocket(self, request: HttpRequest) -> WebSocketHandler | Refusal:
        gateway = self._of(request.path)
        if gateway is None:
            paths = ", ".join(self._gateways)
            there = f"there is: {paths}" if paths else "this node has not the role `gateway`: connect to one that has"
            text = f"There is no WebSocket here; {there}\n".encode()
            return Refusal(404, ((b"content-type", b"text/plain; charset=utf-8"),), text)
        return gateway.websocket(request)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        gateway = self._of(scope["path"])
        application = self._api if gateway is None else getattr(gateway, "asgi", self._api)
        await application(scope, receive, send)


def _listener_settings(settings: Settings) -> ListenerSettings:
    server = settings.server
    limits: LimitSettings = server.limits
    tls = server.tls
    return ListenerSettings(
        host=server.host,
        port=server.port,
        tls=server_context(tls.certificate, tls.key, tls.minimum) if tls is not None else None,
        max_message=max(gateway.max_payload for gateway in server.gateways),
        fragments=limits.fragments,
        read_buffers=limits.read_buffers,
        head_bytes=limits.header_bytes,
        head_count=limits.headers,
        body_bytes=max(limits.body_bytes, *(gateway.max_payload for gateway in server.gateways)),
        head_timeout=limits.handshake_timeout,
        body_timeout=limits.body_timeout,
        connections=limits.connections,
        connections_per_address=limits.connections_per_address,
        half_open_per_address=limits.half_open_per_address,
        handshakes_at_once=limits.handshakes_at_once,
        origins=tuple(server.origins),
        require_origin=server.require_origin,
        addresses_only=not settings.auth.enabled,
        any_name=_PROBES,
        trusted_proxies=tuple(server.trusted_proxies),
        proxy_protocol=server.proxy_protocol,
        access_log=settings.log.access,
    )
