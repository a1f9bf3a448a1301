"""A WebSocket on a transport in memory: bytes in as given, events and bytes out. Time stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import structlog

from smart_router.clock import Deadlines
from smart_router.gateways.cork import Cork
from smart_router.gateways.peers import Peer, Peers
from smart_router.gateways.request import HttpRequest
from smart_router.gateways.websocket import WebSocket
from tests.gateways.raw import frame

__all__ = ["Fed", "frames_of"]


def frames_of(rows: list[tuple[int, bytes, bool, int, bool]]) -> bytes:
    return b"".join(
        frame(opcode, payload, fin=fin, rsv=rsv, masked=masked) for opcode, payload, fin, rsv, masked in rows
    )


class Fed:
    """Feeds the pieces, one loop turn each, and keeps what the handler was told and what was written."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.written = b""
        asyncio.run(self._feed(pieces))

    async def _feed(self, pieces: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(_StoppedClock(), loop.call_at)
        log = structlog.wrap_logger(structlog.PrintLogger(), processors=[_drop])
        lost: Callable[[Peer], None] = Peer.leave
        cork = Cork(loop, deadlines, log, lost)
        peer = Peers(0, 0).of("192.0.2.1")
        peer.enter()
        transport = _Memory()
        socket = WebSocket(cast(asyncio.Transport, transport), HttpRequest("/"), _Notes(self.events), peer, cork)
        socket.start(b"")
        for piece in pieces:
            transport.feed(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.written = transport.written
        deadlines.close()


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


class _StoppedClock:
    def monotonic(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0


class _Notes:
    def __init__(self, events: list[tuple[Any, ...]]) -> None:
        self._events = events

    def opened(self, socket: WebSocket) -> None:
        self._events.append(("opened",))

    def text(self, data: bytes) -> None:
        self._events.append(("text", data))

    def binary(self, data: bytes) -> None:
        self._events.append(("binary", data))

    def pong(self, data: bytes) -> None:
        self._events.append(("pong", data))

    def before_flush(self) -> None:
        """Nothing to add."""

    def writable(self, ok: bool) -> None:
        self._events.append(("writable", ok))

    def closed(self, code: int, reason: str) -> None:
        self._events.append(("closed", code, reason))


class _Memory:
    """The part of asyncio.Transport that is used, over two byte strings."""

    def __init__(self) -> None:
        self.written = b""
        self._protocol: Any = None
        self._closing = False
        self._reading = True
        self._waiting = b""

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def feed(self, data: bytes) -> None:
        """As a transport does: not beyond the buffer's room, not while paused."""
        self._waiting += data
        while self._waiting and self._reading and not self._closing:
            buffer = memoryview(self._protocol.get_buffer(-1))
            size = min(len(buffer), len(self._waiting))
            buffer[:size] = self._waiting[:size]
            self._waiting = self._waiting[size:]
            self._protocol.buffer_updated(size)

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        """Nothing more is written."""

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self._closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def get_write_buffer_size(self) -> int:
        return 0
