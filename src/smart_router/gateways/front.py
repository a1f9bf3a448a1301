"""What comes before HTTP on a new connection: a PROXY header from a trusted proxy, the TLS handshake, each with its
deadline.

A plain connection without PROXY never sees this class. Exactly the header's bytes are read, so that nothing of what
follows is taken from TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, cast

from smart_router.errors import ProtocolError
from smart_router.gateways.http import HttpProtocol
from smart_router.gateways.linger import Linger
from smart_router.gateways.parser import feed
from smart_router.gateways.peers import Peer
from smart_router.gateways.proxy import PROXY_HEAD, PROXY_SIGNATURE, proxy_source, proxy_tail
from smart_router.gateways.service import Service

__all__ = ["Front"]

_SHUTDOWN: Final = 5.0
_EARLY: Final = 16_384


class Front(asyncio.BufferedProtocol):
    """One new connection until HTTP takes it over."""

    def __init__(self, service: Service) -> None:
        self.deadline: float | None = None
        self.queued: float | None = None
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._place: Peer | None = None
        self._address: str = ""
        self._buffer = bytearray(PROXY_HEAD)
        self._filled = 0
        self._task: asyncio.Task[None] | None = None  # of the TLS handshake
        self._early = b""  # came before uvloop's TLS had the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        service = self._service
        transport = self._transport = cast(asyncio.Transport, transport)
        peername = transport.get_extra_info("peername")
        self._address = str(peername[0]) if isinstance(peername, tuple) else ""
        trusted = service.proxies.trusts(self._address)
        wanted = service.settings.proxy_protocol
        if wanted == "v2" and not trusted:
            service.counters.proxy_headers_bad += 1
            transport.abort()
            return
        self._place = service.admit(self._address)
        if self._place is None:
            transport.abort()
            return
        now = service.clock()
        self.deadline = now + service.settings.head_timeout
        service.deadlines.watch(self)
        service.fronts.add(self)
        if wanted == "off" or not trusted:
            self._go_on(b"")

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._task is not None:
            self._buffer, self._filled = bytearray(_EARLY), 0
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        read = bytes(self._buffer[: self._filled])
        if self._task is not None:
            self._early += read
            if self._transport is not None:
                self._transport.pause_reading()
            return
        if not PROXY_SIGNATURE.startswith(read[:12]):
            if self._service.settings.proxy_protocol == "optional" and self._service.settings.tls is None:
                self._go_on(read)
            else:
                self._bad("no PROXY header")
            return
        try:
            self._read_header(read)
        except ProtocolError as error:
            self._bad(error.message)

    def _read_header(self, read: bytes) -> None:
        if len(read) < PROXY_HEAD:
            return
        size = proxy_tail(read)
        if len(self._buffer) < PROXY_HEAD + size:
            self._buffer = self._buffer + bytes(size)  # a new one: the transport still holds the old
        if len(read) == PROXY_HEAD + size:
            source = proxy_source(read[:PROXY_HEAD], read[PROXY_HEAD:])
            if source is not None and not self._move_to(source):
                return
            self._go_on(b"")

    def _move_to(self, source: str) -> bool:
        """Counted for the client from here on, no longer for the proxy."""
        assert self._transport is not None
        if self._place is not None:
            self._service.lost(self._place)
        self._address = source
        if self._service.settings.tls is None:
            self._place = None  # HTTP admits it, or says why not
            return True
        self._place = self._service.admit(source)
        if self._place is None:
            self._transport.abort()
        return self._place is not None

    def _go_on(self, read: bytes) -> None:
        transport, tls = self._transport, self._service.settings.tls
        assert transport is not None
        if tls is None:
            self._hand_over(transport, read)
        else:
            transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._start_tls(transport, tls))

    async def _start_tls(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        """uvloop starts to read behind `connection_made` whatever one asks for: what it read meanwhile is given on."""
        loop: Any = asyncio.get_running_loop()
        opening = _Opening()
        transport.pause_reading()
        starting = loop.create_task(
            loop.start_tls(
                transport,
                opening,
                context,
                server_side=True,
                ssl_handshake_timeout=self._service.settings.head_timeout,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        )
        await asyncio.sleep(0)  # start_tls has made its protocol, whose connection_made comes next
        if transport.is_closing():  # gone already: TLS would wait for ever
            starting.cancel()
            self._tls_failed(transport, "ConnectionLost")
            return
        loop.call_soon(self._give_early, transport)
        try:
            secure = await starting
        except OSError as error:  # ssl.SSLError is one
            self._tls_failed(transport, type(error).__name__)
        else:
            if transport.is_closing():  # uvloop wakes us without an error when the connection goes
                self._tls_failed(transport, "ConnectionLost")
            else:
                self._hand_over(secure, b"".join(opening.early))

    def _tls_failed(self, transport: asyncio.Transport, reason: str) -> None:
        self._service.counters.tls_failed += 1
        self._service.log.info("tls_failed", reason=reason, peer=self._address)
        transport.abort()
        self._leave()

    def _give_early(self, transport: asyncio.Transport) -> None:
        early, self._early = self._early, b""
        protocol: Any = transport.get_protocol()
        if early and protocol is not self and not transport.is_closing():
            feed(protocol, early)

    def _hand_over(self, transport: asyncio.Transport, read: bytes) -> None:
        place, self._place = self._place, None
        self._leave()
        http = HttpProtocol(self._service, place, self._address)
        reading = transport.is_reading()
        transport.pause_reading()  # uvloop settles how to read when reading starts
        transport.set_protocol(http)
        if reading:
            transport.resume_reading()
        http.connection_made(transport)
        if read and transport.get_protocol() is http:
            http.data_received(read)

    def _bad(self, reason: str) -> None:
        assert self._transport is not None
        self._service.counters.proxy_headers_bad += 1
        self._service.log.info("proxy_header_bad", reason=reason, peer=self._address)
        self.deadline = None
        Linger(self._transport, self._service.deadlines, self._service.clock(), self._leave)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def _leave(self) -> None:
        self.deadline = None
        self._service.fronts.discard(self)
        place, self._place = self._place, None
        if place is not None:
            self._service.lost(place)

    def handle_timer(self, now: float) -> None:
        self.deadline = None
        self._service.counters.heads_late += 1
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Opening(asyncio.Protocol):
    """Keeps what arrives between the end of the TLS handshake and the hand-over."""

    def __init__(self) -> None:
        self.early: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.early.append(data)
