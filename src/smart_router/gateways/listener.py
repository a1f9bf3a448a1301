"""Sockets, limits and the list of all connections: one port for HTTP/1.1 and WebSocket.

accept ─► [PROXY header, TLS: front.py] ─► http.py ─┬─► ASGI application
                                                    └─► websocket.py ─► the gateway's WebSocketHandler
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import structlog

from smart_router.clock import Deadlines, SystemClock
from smart_router.gateways.front import Front
from smart_router.gateways.http import HttpProtocol
from smart_router.gateways.service import Application, Decide, Service
from smart_router.gateways.settings import ListenerSettings, ListenerStatistics
from smart_router.gateways.websocket import WebSocket

__all__ = ["Application", "Decide", "Listener", "ListenerSettings", "ListenerStatistics"]

_FAREWELL = 1.0  # seconds for the peers' close frames


class Listener:
    """Serves `app` over HTTP/1.1 and what `websockets` accepts over WebSocket, on one port.

    `websockets(request)` is called for every valid upgrade whose Origin is allowed; it answers with a new handler
    (after choosing `request.subprotocol` and perhaps `request.max_message`) or with a Refusal. An ASGI scope carries
    the HttpRequest as `scope["smart_router.request"]`.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        app: Application,
        websockets: Decide,
        *,
        log: Any = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        """`deadlines`: shared with others of the same loop; without it the listener has its own."""
        self._settings = settings
        self._app = app
        self._decide = websockets
        self._log = log if log is not None else structlog.get_logger()
        self._deadlines = deadlines
        self._own_deadlines = deadlines is None
        self._service: Service | None = None
        self._servers: list[asyncio.Server] = []
        self._addresses: list[tuple[str, int]] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every bound socket, after `start`; it stays after `close`."""
        return list(self._addresses)

    @property
    def websockets(self) -> Iterator[WebSocket]:
        """All open ones, as of now."""
        return iter(list(self._started.cork.open))

    @property
    def _started(self) -> Service:
        if self._service is None:
            raise RuntimeError("start the listener first")
        return self._service

    async def start(self) -> None:
        """Bind and accept; OSError if an address can't be had: then none is."""
        loop = asyncio.get_running_loop()
        if self._deadlines is None:
            self._deadlines = Deadlines(SystemClock(), loop.call_at)
        service = self._service = Service(self._settings, self._app, self._decide, self._deadlines, self._log)
        direct = self._settings.tls is None and self._settings.proxy_protocol == "off"

        def connection() -> asyncio.BaseProtocol:
            return HttpProtocol(service) if direct else Front(service)

        sockets = await self._bind(loop)
        for listening in sockets:
            server = await loop.create_server(connection, sock=listening, backlog=self._settings.backlog)
            self._servers.append(server)

    async def _bind(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """Every address of the host, all on one port."""
        settings, port = self._settings, self._settings.port
        found = await loop.getaddrinfo(settings.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listening = socket.socket(family, kind, protocol)
                sockets.append(listening)
                _prepare(listening, settings.receive_buffer)
                listening.bind((address[0], port, *address[2:]))
                port = listening.getsockname()[1]
        except OSError:
            for listening in sockets:
                listening.close()
            raise
        self._addresses = [listening.getsockname()[:2] for listening in sockets]
        return sockets

    async def drain(self, seconds: float) -> None:
        """Stop accepting; return once all HTTP answers have ended and the WebSockets are gone, or after `seconds`.

        An idle kept-alive connection is closed, a busy one after its answer; closing the WebSockets is the gateway's
        matter.
        """
        service = self._started
        service.draining = True
        for server in self._servers:
            server.close()
        for connection in list(service.state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await service.until_empty()

    async def close(self) -> None:
        """Close what is left: HTTP at once, WebSockets with 1001 and a second for the peer's answer. Harmless when
        repeated."""
        service = self._started
        service.draining = True
        for server in self._servers:
            server.close()
        for front in list(service.fronts):
            front.abort()
        for connection in list(service.state.connections):
            connection.transport.abort()
        for websocket in list(service.cork.open):
            websocket.close(1001)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await service.until_empty()
        for websocket in list(service.cork.open):
            websocket.abort()
        await service.until_empty()
        service.buffers.close()
        if service.state.tasks:
            await asyncio.wait(service.state.tasks, timeout=self._settings.close_timeout)
        for task in list(service.state.tasks):
            task.cancel()
        if self._own_deadlines and self._deadlines is not None:
            self._deadlines.close()

    def statistics(self) -> ListenerStatistics:
        """The counters, as of now; all zero before `start`."""
        if self._service is None:
            return ListenerStatistics(*[0] * len(ListenerStatistics._fields))
        service = self._service
        return ListenerStatistics(
            connections=service.connections,
            websockets=len(service.cork.open),
            http=len(service.state.connections),
            addresses=len(service.peers),
            handshakes_waiting=len(service.gate),
            read_buffers=service.buffers.held,
            **vars(service.counters),
        )


def _prepare(listening: socket.socket, receive_buffer: int) -> None:
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if receive_buffer:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
