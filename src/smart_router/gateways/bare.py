"""Bare messages for a handler of one's own, over Engine.IO or over a WebSocket: no acknowledgements, no mailboxes."""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

from smart_router.clock import Clock, Deadlines
from smart_router.config.schema import GatewaySettings, LimitSettings
from smart_router.gateways.engine_connection import EngineConnection
from smart_router.gateways.engineio import EngineGateway, EngineGatewayStatistics
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.request import HttpRequest
from smart_router.gateways.websocket import WebSocket
from smart_router.protocols.engineio import Transport

__all__ = [
    "BareApplication",
    "BareEngineGateway",
    "BareHandler",
    "BareSocket",
    "BareStatistics",
    "BareWebSocketGateway",
]

_MESSAGE: Final = b"4"
_RESTART: Final = 1012


class BareSocket(Protocol):
    """One connection. Calls on one that is gone do nothing."""

    def send_text(self, data: bytes) -> None:
        """`data` is UTF-8."""

    def send_binary(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class BareHandler(Protocol):
    """Serves one connection; nothing is called after `closed`."""

    def text(self, data: bytes) -> None: ...

    def binary(self, data: bytes) -> None: ...

    def closed(self) -> None: ...


class BareApplication(Protocol):
    """What a gateway of bare messages serves."""

    def connect(self, socket: BareSocket, request: HttpRequest) -> BareHandler: ...


class BareEngineGateway(EngineGateway):
    """Engine.IO messages to a handler."""

    def __init__(
        self,
        settings: GatewaySettings,
        application: BareApplication,
        deadlines: Deadlines,
        clock: Clock,
        limits: LimitSettings | None = None,
        origins: OriginRule | None = None,
    ) -> None:
        super().__init__(settings, deadlines, clock, limits, origins)
        self.application = application

    def new_connection(self, request: HttpRequest, transport: Transport) -> _EngineMessages:
        return _EngineMessages(self, request, transport)

    def statistics(self) -> EngineGatewayStatistics:
        return self.engine_statistics()


class _EngineMessages(EngineConnection):
    __slots__ = ("_handler",)

    def __init__(self, gateway: BareEngineGateway, request: HttpRequest, transport: Transport) -> None:
        super().__init__(gateway, request, transport)
        self._handler: BareHandler = gateway.application.connect(self, request)

    def send_text(self, data: bytes) -> None:
        self.write(_MESSAGE, data)

    def send_binary(self, data: bytes) -> None:
        self.write_binary(data)

    def close(self) -> None:
        self.end("closed by the server")

    def message(self, data: bytes) -> None:
        self._handler.text(data[1:])

    def binary(self, data: bytes) -> None:
        self._handler.binary(data)

    def before_flush(self) -> None:
        """No barriers: nobody asks for a confirmation."""

    def proven(self) -> None:
        """As before_flush."""

    def pinging(self) -> None:
        """As before_flush."""

    def writable(self, ok: bool) -> None:
        """A client that does not read what it asked for is not read either."""
        if ok:
            self.resume_reading()
        else:
            self.pause_reading()

    def ended(self) -> None:
        self._handler.closed()

    def other_deadline(self) -> float | None:
        return None

    def other_timer(self, now: float) -> None:
        """Nothing but the heartbeat."""


class BareStatistics(NamedTuple):
    """What there is now, then counters since the start."""

    connections: int
    opened: int
    timed_out: int


class BareWebSocketGateway:
    """WebSocket messages to a handler; an RFC 6455 ping each `ping_interval` finds the dead."""

    def __init__(
        self, settings: GatewaySettings, application: BareApplication, deadlines: Deadlines, clock: Clock
    ) -> None:
        self.settings = settings
        self.application = application
        self.deadlines = deadlines
        self.now = clock.monotonic
        self.sockets: set[_WebSocketMessages] = set()
        self.opened = 0
        self.timed_out = 0

    @property
    def connections(self) -> int:
        return len(self.sockets)

    def websocket(self, request: HttpRequest) -> _WebSocketMessages:
        """For the listener: the handler of a handshake on our path."""
        request.max_message = self.settings.max_payload
        return _WebSocketMessages(self, request)

    async def drain(self, seconds: float) -> None:
        """Close all with 1012; there is no protocol in which to ask for a delay."""
        self.close()

    def close(self) -> None:
        for socket in list(self.sockets):
            socket.close()

    def statistics(self) -> BareStatistics:
        return BareStatistics(len(self.sockets), self.opened, self.timed_out)


class _WebSocketMessages:
    """gateways.websocket.WebSocketHandler below, BareSocket above."""

    __slots__ = ("_due", "_gateway", "_handler", "_pinged", "_websocket", "queued")

    def __init__(self, gateway: BareWebSocketGateway, request: HttpRequest) -> None:
        self.queued: float | None = None
        self._gateway = gateway
        self._due = gateway.now() + gateway.settings.ping_interval
        self._pinged = False
        self._websocket: WebSocket | None = None
        self._handler: BareHandler = gateway.application.connect(self, request)

    def send_text(self, data: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_text(data)

    def send_binary(self, data: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_binary(data)

    def close(self) -> None:
        if self._websocket is not None:
            self._websocket.close(_RESTART)

    def opened(self, socket: WebSocket) -> None:
        self._websocket = socket
        self._gateway.opened += 1
        self._gateway.sockets.add(self)
        self._gateway.deadlines.watch(self)

    def text(self, data: bytes) -> None:
        self._handler.text(data)

    def binary(self, data: bytes) -> None:
        self._handler.binary(data)

    def pong(self, data: bytes) -> None:
        if self._pinged:
            self._pinged = False
            self._due = self._gateway.now() + self._gateway.settings.ping_interval

    def before_flush(self) -> None:
        """Nothing to add."""

    def writable(self, ok: bool) -> None:
        """A client that does not read what it asked for is not read either. Later its time begins anew."""
        websocket = self._websocket
        if websocket is None:
            return
        if ok:
            self._due = self._gateway.now() + self._gateway.settings.ping_interval
            self._gateway.deadlines.watch(self)
            websocket.resume_reading()
        else:
            websocket.pause_reading()

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None
        self._gateway.sockets.discard(self)
        self._handler.closed()

    @property
    def deadline(self) -> float | None:
        return self._due if self._websocket is not None and self._due != math.inf else None

    def handle_timer(self, now: float) -> None:
        websocket = self._websocket
        if websocket is None:
            return
        if self._pinged:
            self._gateway.timed_out += 1
            websocket.abort()
            self._due = math.inf
        else:
            self._pinged = True
            self._due = now + self._gateway.settings.ping_timeout
            websocket.ping()
