"""Engine.IO 4 on one path: who may begin a session, and which session a request belongs to.

WebSocket ─► websocket() ─┬─► new connection                    ┌─► message / binary (the layer above)
                          └─► probe.py, an upgrade ─► connection ┤
HTTP ─────► asgi() ───────┬─► handshake ─► new connection       └─► session (protocols/engineio.py)
                          └─► polling.py: GET, POST
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

import structlog

from smart_router.clock import Clock, Deadlines
from smart_router.config.schema import GatewaySettings, LimitSettings
from smart_router.gateways.engine_connection import EngineConnection
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.polling import Answer, refused
from smart_router.gateways.probe import Probe, TooLate
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.websocket import WebSocketHandler
from smart_router.protocols.engineio import EngineOptions, HandshakeError, Transport, check_request, parse_query

__all__ = ["EngineCounters", "EngineGateway", "EngineGatewayStatistics"]

_MIN_BACKLOG: Final = 4_194_304
_DRAIN_STEP: Final = 0.05
_RESTART: Final = 1012  # close code: come back
_JSON: Final = (b"content-type", b"application/json")
_BUSY: Final = b"busy: come again later"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class EngineCounters:
    """Counters since the start, written where things happen."""

    def __init__(self) -> None:
        self.opened = 0
        self.upgrades = 0
        self.handshakes_refused = 0
        self.requests_refused = 0
        self.protocol_errors = 0
        self.timed_out = 0
        self.handler_errors = 0
        self.ignored_pongs = 0


class EngineGatewayStatistics(NamedTuple):
    """What there is now, then counters since the start."""

    connections: int
    polling: int
    opened: int
    upgrades: int  # from polling to WebSocket
    handshakes_refused: int
    requests_refused: int  # polls and posts: no such session, another's, overlapping, too large
    protocol_errors: int  # of these connections the peer broke the protocol
    timed_out: int  # no answer to a ping
    handler_errors: int
    ignored_pongs: int  # answered nothing; of ended connections


class EngineGateway(ABC):
    """All sessions of one path. Serves WebSockets through `websocket`, polling through `asgi`."""

    def __init__(
        self,
        settings: GatewaySettings,
        deadlines: Deadlines,
        clock: Clock,
        limits: LimitSettings | None = None,
        origins: OriginRule | None = None,
    ) -> None:
        """`origins`: which web pages may poll, none: our own only; the listener's rule holds for WebSockets."""
        limits = limits if limits is not None else LimitSettings()
        self.settings = settings
        self.deadlines = deadlines
        self.now = clock.monotonic
        self.log = structlog.get_logger(f"smart_router.{settings.kind}")
        self.options = EngineOptions(
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
            max_payload=settings.max_payload,
            max_packets_in=limits.packets_per_post,
            max_backlog=max(_MIN_BACKLOG, 2 * settings.max_payload),
        )
        self.sessions: dict[str, EngineConnection] = {}
        self.counters = EngineCounters()
        self.limit = limits.connections
        self._origins = origins if origins is not None else OriginRule()
        self._draining = False

    @property
    def connections(self) -> int:
        return len(self.sessions)

    def engine_statistics(self) -> EngineGatewayStatistics:
        """What every gateway over Engine.IO counts."""
        counters = self.counters
        return EngineGatewayStatistics(
            connections=len(self.sessions),
            polling=sum(connection.polling is not None for connection in self.sessions.values()),
            opened=counters.opened,
            upgrades=counters.upgrades,
            handshakes_refused=counters.handshakes_refused,
            requests_refused=counters.requests_refused,
            protocol_errors=counters.protocol_errors,
            timed_out=counters.timed_out,
            handler_errors=counters.handler_errors,
            ignored_pongs=counters.ignored_pongs,
        )

    @abstractmethod
    def new_connection(self, request: HttpRequest, transport: Transport) -> EngineConnection:
        """A connection of the layer above."""

    # WebSocket

    def websocket(self, request: HttpRequest) -> WebSocketHandler | Refusal:
        """For the listener: the handler of a handshake on our path, or its refusal."""
        query = parse_query(request.query)
        current = self.sessions.get(query.get("sid", ""))
        transport = current.session.transport if current is not None else None
        request.max_message = self.settings.max_payload
        if current is not None and query.get("transport") == "websocket":
            if not current.is_of(request):
                return self._refusal(HandshakeError.BAD_REQUEST)
            return Probe(current) if transport is Transport.POLLING else TooLate()
        error = check_request("GET", query, websocket=True, current=transport)
        if error is not None:
            return self._refusal(error)
        if self._is_full:
            self.counters.handshakes_refused += 1
            return Refusal(503, ((b"retry-after", b"5"),), _BUSY)
        return self.new_connection(request, Transport.WEBSOCKET)

    def _refusal(self, error: HandshakeError) -> Refusal:
        self.counters.handshakes_refused += 1
        return Refusal(error.status, (_JSON,), error.body)

    @property
    def _is_full(self) -> bool:
        return self._draining or (self.limit > 0 and len(self.sessions) >= self.limit)

    # Polling

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A bare ASGI application for HTTP requests on our path, from `Listener`."""
        request: HttpRequest = scope["smart_router.request"]
        foreign = self._origins.refuses(request)
        cors: list[tuple[bytes, bytes]] = []
        if foreign is not None:
            self.counters.requests_refused += 1
            answer = refused(HandshakeError.FORBIDDEN)
        elif scope["method"] == "OPTIONS":
            cors = self._origins.cors_headers(request)
            answer = Answer(204, b"")
        else:
            cors = self._origins.cors_headers(request)
            answer = await self._answer(scope["method"], request, receive)
        headers = [*answer.headers(), *cors]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, method: str, request: HttpRequest, receive: Receive) -> Answer:
        query = parse_query(request.query)
        connection = self.sessions.get(query.get("sid", ""))
        current = connection.session.transport if connection is not None else None
        error = check_request(method, query, websocket=False, current=current)
        if error is None and connection is not None and not connection.is_of(request):
            error = HandshakeError.BAD_REQUEST
        if error is not None:
            self.counters.requests_refused += 1
            return refused(error)
        if connection is None:
            return self._handshake(request)
        assert connection.polling is not None
        if method == "GET":
            return await connection.polling.get(receive)
        return await connection.polling.post(request, receive)

    def _handshake(self, request: HttpRequest) -> Answer:
        if self._is_full:
            self.counters.handshakes_refused += 1
            return Answer(503, _BUSY, extra=((b"retry-after", b"5"),))
        kept = HttpRequest(request.path, request.query, [], request.peer, request.scheme, request.host)
        kept.headers = [(name, value) for name, value in request.headers if name == b"authorization"]
        connection = self.new_connection(kept, Transport.POLLING)
        kept.headers = []
        connection.register()
        return Answer(200, connection.session.open_packet)

    # The end

    async def drain(self, seconds: float) -> None:
        """Close all transports, spread over `seconds`; clients come back by themselves, to another node."""
        self._draining = True
        waiting = list(self.sessions.values())
        steps = max(1, int(seconds / _DRAIN_STEP))
        for step in range(steps, 0, -1):
            share = -(-len(waiting) // step)
            for connection in waiting[:share]:
                connection.end("the server is going down", _RESTART)
            del waiting[:share]
            if not waiting:
                return
            await asyncio.sleep(_DRAIN_STEP)

    def close(self) -> None:
        """Close what is left, at once."""
        self._draining = True
        for connection in list(self.sessions.values()):
            connection.end("the server is going down", _RESTART)
