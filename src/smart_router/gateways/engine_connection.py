"""One Engine.IO session with its transport: polling, a WebSocket, or one after the other."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from smart_router.errors import ProtocolError
from smart_router.gateways.polling import Polling
from smart_router.gateways.request import HttpRequest
from smart_router.gateways.websocket import WebSocket
from smart_router.protocols.engineio import MESSAGE, EngineSession, Packet, Transport

if TYPE_CHECKING:
    from smart_router.gateways.engineio import EngineGateway

__all__ = ["EngineConnection"]

_FOR_EVER: Final = float("inf")
_PONG: Final = b"3"
_MAX_IGNORED_PONGS: Final = 1000  # of one connection: no client of ours sends any


class EngineConnection(ABC):
    """gateways.websocket.WebSocketHandler, clock.Owner; the layer above is a subclass.

    A text message comes to `message` with its `4`, a binary one to `binary` as it stands; `write` takes the same forms.
    """

    __slots__ = (
        "_bound_to", "_paused", "_quiet_until", "authorization", "gateway", "now", "polling", "queued", "request",
        "session", "websocket",
    )  # fmt: skip

    def __init__(self, gateway: EngineGateway, request: HttpRequest, transport: Transport) -> None:
        self.gateway = gateway
        self.now = gateway.now
        self.request = request
        self.authorization = request.header(b"authorization")
        self.session = EngineSession(secrets.token_urlsafe(16), transport, gateway.options, gateway.now())
        self.websocket: WebSocket | None = None
        self.polling: Polling | None = None
        self.queued: float | None = None
        self._paused = 0
        self._quiet_until = 0.0  # no heartbeat, no timeout before: while we do not read we hear no pong
        self._bound_to = b""
        if transport is Transport.POLLING:
            self.polling = Polling(self)
            self._bound_to = _digest(self.authorization)

    def register(self) -> None:
        """From here on requests find the session, and its time runs."""
        self.gateway.sessions[self.session.sid] = self
        self.gateway.counters.opened += 1
        self.gateway.deadlines.watch(self)

    def is_of(self, request: HttpRequest) -> bool:
        """The request shows the token that the session began with (P11). A session on a WebSocket takes no requests."""
        return not self._bound_to or hmac.compare_digest(self._bound_to, _digest(request.header(b"authorization")))

    # Of the layer above

    @abstractmethod
    def message(self, data: bytes) -> None:
        """One text message."""

    @abstractmethod
    def binary(self, data: bytes) -> None:
        """One binary message."""

    @abstractmethod
    def before_flush(self) -> None:
        """What was written in this loop turn leaves now."""

    @abstractmethod
    def proven(self) -> None:
        """`session.pings_answered` may have grown."""

    @abstractmethod
    def pinging(self) -> None:
        """Ping number `session.pings_sent` is being written."""

    @abstractmethod
    def writable(self, ok: bool) -> None:
        """As WebSocketHandler's."""

    @abstractmethod
    def ended(self) -> None:
        """The session is over; called once. What this raises is logged."""

    @abstractmethod
    def other_deadline(self) -> float | None:
        """When to call `other_timer`."""

    @abstractmethod
    def other_timer(self, now: float) -> None:
        """ProtocolError ends the connection."""

    # gateways.websocket.WebSocketHandler

    def opened(self, socket: WebSocket) -> None:
        self.websocket = socket
        self.register()
        socket.send_text(self.session.open_packet)

    def text(self, data: bytes) -> None:
        if data and data[0] == MESSAGE:
            self.message(data)
        else:
            self._control(data)

    def _control(self, data: bytes) -> None:
        session = self.session
        try:
            session.receive(data)
        except ProtocolError as error:
            self.fail(error)
            return
        if session.closed:
            self.end("closed by the client")
        elif data.startswith(_PONG):
            if session.pings_answered == session.pings_sent and session.statistics().ignored_pongs > _MAX_IGNORED_PONGS:
                self.fail(ProtocolError("too many pongs that answer nothing", close_code=1008))
            else:
                self.proven()

    def pong(self, data: bytes) -> None:  # noqa: B027 (complete as it is)
        """A WebSocket pong proves nothing to Engine.IO: a browser's network process answers it."""

    def closed(self, code: int, reason: str) -> None:
        self.end("transport closed")

    # Writing

    def write(self, *parts: bytes) -> None:
        """One text packet, the concatenation of `parts`."""
        if self.websocket is not None:
            self.websocket.send_text(*parts)
        elif self.polling is not None:
            self.polling.send(b"".join(parts))

    def write_binary(self, data: bytes) -> None:
        if self.websocket is not None:
            self.websocket.send_binary(data)
        elif self.polling is not None:
            self.polling.send(data, binary=True)

    def ping(self) -> None:
        """A ping behind all that was written; none while reading is paused, for its answer would not be heard."""
        if not self._paused and self.session.close_reason is None:
            now = self.now()
            ping = self.session.ping(now)
            self.pinging()
            self.write(ping)
            if self.queued is None or self.queued > now + self.gateway.options.ping_timeout:
                self.watch()

    def flush_soon(self) -> None:
        """`before_flush` comes at the end of this loop turn, even if nothing is written."""
        if self.polling is not None:
            self.polling.schedule()
        else:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self.session.close_reason is None:
            try:
                self.before_flush()
            except Exception as error:  # noqa: BLE001 (a handler's fault ends its own connection only)
                self.broken(error)

    # Reading

    def take(self, packets: Iterable[Packet]) -> None:
        """What a POST brought, until the connection ends."""
        try:
            for packet in packets:
                if packet.binary:
                    self.binary(packet.data)
                else:
                    self.text(packet.data)
                if self.session.close_reason is not None:
                    break
        except Exception as error:  # noqa: BLE001 (a handler's fault ends its own connection only)
            self.broken(error)

    @property
    def paused(self) -> bool:
        return self._paused > 0

    def pause_reading(self) -> None:
        """Counted: reading goes on when each caller has resumed."""
        self._paused += 1
        self._quiet_until = _FOR_EVER
        if self.websocket is not None:
            self.websocket.pause_reading()

    def resume_reading(self) -> None:
        self._paused -= 1
        if self._paused:
            return
        self._quiet_until = self.now() + self.gateway.options.ping_timeout
        self.watch()
        self.flush_soon()
        if self.websocket is not None:
            self.websocket.resume_reading()
        elif self.polling is not None:
            self.polling.resume()

    # Upgrade

    def upgraded(self, websocket: WebSocket) -> None:
        """The WebSocket carries the session from here on, what still waited for polls first."""
        polling, self.polling = self.polling, None
        body, packets = self.session.finish_upgrade()
        self.websocket = websocket
        self.request = websocket.request
        self.gateway.counters.upgrades += 1
        for packet in packets:
            if packet.binary:
                websocket.send_binary(packet.data)
            else:
                websocket.send_text(packet.data)
        if polling is not None:
            polling.finish(body)
        if self._paused:
            websocket.pause_reading()

    # Time

    @property
    def deadline(self) -> float | None:
        when = self.session.next_deadline()
        if when is None or self._quiet_until == _FOR_EVER:
            return None
        other = self.other_deadline()
        if other is not None and other < when:
            when = other
        return max(when, self._quiet_until)

    def watch(self) -> None:
        """A deadline may have come nearer."""
        self.gateway.deadlines.watch(self)

    def handle_timer(self, now: float) -> None:
        try:
            heartbeat = self.session.handle_timer(now)
            if heartbeat is not None:
                self.pinging()
                self.write(heartbeat)
            self.other_timer(now)
        except ProtocolError as error:
            self.gateway.counters.timed_out += 1
            self.end(error.message, error.close_code)
        except Exception as error:  # noqa: BLE001 (a handler's fault ends its own connection only)
            self.broken(error)
        polling = self.polling
        if polling is not None and polling.probe is not None and not self.session.upgrading:
            polling.probe.close(1008, "the upgrade took too long")

    # The end

    def fail(self, error: ProtocolError) -> None:
        """The peer broke the protocol."""
        if self.session.sid in self.gateway.sessions:
            self.gateway.counters.protocol_errors += 1
            self.gateway.log.info("engineio_failed", reason=error.message, peer=self.request.peer)
            self.end(error.message, error.close_code)

    def broken(self, error: Exception) -> None:
        """A handler raised."""
        self.gateway.counters.handler_errors += 1
        self.gateway.log.error("engineio_handler_error", exc_info=error, peer=self.request.peer)
        self.end("internal error", 1011)

    def end(self, reason: str, code: int = 1000, abort: bool = False) -> None:
        """Close the transport, once; `abort`: the peer is not waited for."""
        gateway = self.gateway
        if gateway.sessions.pop(self.session.sid, None) is None:
            return
        self.session.close(reason)
        gateway.counters.ignored_pongs += self.session.statistics().ignored_pongs
        websocket, self.websocket = self.websocket, None
        polling, self.polling = self.polling, None
        if polling is not None:
            if polling.probe is not None:
                polling.probe.close(1001, "the session has ended")
            polling.finish(self.session.take_body())
        if websocket is not None:
            if abort:
                websocket.abort()
            else:
                websocket.close(code, reason)
        try:
            self.ended()
        except Exception as error:
            gateway.counters.handler_errors += 1
            gateway.log.error("engineio_handler_error", exc_info=error, peer=self.request.peer)


def _digest(authorization: bytes | None) -> bytes:
    return hashlib.sha256(authorization or b"").digest()
