"""What all connections of one listener share: settings, limits, counts, the turn of handshakes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from uvicorn.config import Config
from uvicorn.server import ServerState

from smart_router.clock import Deadlines
from smart_router.gateways.accesslog import AccessLog
from smart_router.gateways.cork import Cork
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.peers import Peer, Peers
from smart_router.gateways.proxy import TrustedProxies
from smart_router.gateways.read_buffers import ReadBuffers
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.settings import ListenerSettings

if TYPE_CHECKING:
    from smart_router.gateways.front import Front
    from smart_router.gateways.handler import WebSocketHandler

__all__ = ["Application", "Decide", "Gate", "Service", "Waiting"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Decide = Callable[[HttpRequest], "WebSocketHandler | Refusal"]


class Waiting(Protocol):
    """A WebSocket handshake that waits for its turn."""

    def shake(self) -> None:
        """Its turn."""

    def busy(self) -> None:
        """Too many wait: refuse it."""


class Gate:
    """At most so many handshakes in one loop turn, so that a storm of them starves nobody; ten times as many wait in
    order."""

    __slots__ = ("_at_once", "_call_soon", "_left", "_waiting")

    def __init__(self, at_once: int, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`at_once` 0: no limit."""
        self._at_once = at_once
        self._call_soon = call_soon
        self._left = at_once
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, handshake: Waiting) -> None:
        if not self._at_once:
            handshake.shake()
        elif self._left:
            if self._left == self._at_once:
                self._call_soon(self._next_turn)
            self._left -= 1
            handshake.shake()
        elif len(self._waiting) < 10 * self._at_once:
            self._waiting.append(handshake)
        else:
            handshake.busy()

    def _next_turn(self) -> None:
        self._left = self._at_once
        if self._waiting:
            self._call_soon(self._next_turn)
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft().shake()


class Service:
    """Made by Listener.start; connections reach everything through it."""

    def __init__(
        self, settings: ListenerSettings, app: Application, decide: Decide, deadlines: Deadlines, log: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.decide = decide
        self.log = log
        self.deadlines = deadlines
        self.clock = loop.time
        self.cork = Cork(loop, deadlines, log, self.lost)
        self.cork.close_timeout = settings.close_timeout
        self.cork.control_per_second = settings.control_frames_per_second
        self.cork.fragments = settings.fragments
        self.buffers = ReadBuffers(self.cork, settings.read_buffers)
        deadlines.watch(self.buffers)
        self.access = self.cork.access = AccessLog(self.clock) if settings.access_log else None
        self.counters = self.cork.counters
        self.gate = Gate(settings.handshakes_at_once, loop.call_soon)
        self.origins = OriginRule(settings.origins, settings.require_origin, addresses_only=settings.addresses_only)
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.peers = Peers(settings.connections_per_address, settings.half_open_per_address, settings.limit_loopback)
        self.connections = 0
        self.fronts: set[Front] = set()
        self.draining = False
        self.state = ServerState()
        self._app = app
        self._empty: asyncio.Event = asyncio.Event()
        self.config = Config(
            self._run,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            interface="asgi3",
        )
        self.config.load()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application; what it raises is logged once, without the request's content, and answered with 500."""
        if self.access is not None:
            send = self.access.watch(scope, send)
        foreign = self.origins.refuses_name(scope["smart_router.request"])
        if foreign is not None and scope["path"] not in self.settings.any_name:
            self._note_foreign(scope["client"])
            await _refuse(foreign, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            self.counters.application_errors += 1
            self.log.error("http_application_error", exc_info=error, path=scope["path"])
            raise

    def _note_foreign(self, client: tuple[str, int] | None) -> None:
        self.counters.origins_refused += 1
        self.log.info(
            "http_refused", status=403, reason="under a name, without authentication", peer=client[0] if client else ""
        )

    def admit(self, address: str) -> Peer | None:
        """A place in the counts for a new connection; None: there is none."""
        peer = self.peers.of(address, self.proxies.trusts(address))
        limit = self.settings.connections
        if self.draining or (limit and self.connections >= limit) or not peer.enter():
            self.counters.connections_refused += 1
            if not peer.connections:
                self.peers.forget(peer)
            return None
        self.connections += 1
        self.counters.accepted += 1
        return peer

    def move(self, peer: Peer, address: str) -> Peer | None:
        """The connection counts for another address from here on: the client's whom its proxy names, or the proxy's
        again. None: there are too many of that address; then nothing has changed."""
        if peer.address == address:
            return peer
        other = self.peers.of(address, self.proxies.trusts(address))
        if not other.enter():
            self.counters.connections_refused += 1
            return None
        peer.leave()
        return other

    def lost(self, peer: Peer) -> None:
        """The connection with this place is gone."""
        peer.leave()
        self.connections -= 1
        if not self.connections:
            self._empty.set()

    async def until_empty(self) -> None:
        while self.connections:
            self._empty.clear()
            await self._empty.wait()


async def _refuse(refusal: Refusal, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(refusal.body))]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
