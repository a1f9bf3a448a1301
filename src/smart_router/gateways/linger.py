"""Closing so that the last thing we wrote arrives: bytes unread at `close` would make the kernel reset the
connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from smart_router.clock import Deadlines

__all__ = ["Linger"]

_SECONDS: Final = 2.0
_BYTES: Final = 4_194_304
_VOID = bytearray(65_536)  # what nobody will read, of all connections


class Linger(asyncio.BufferedProtocol):
    """Takes over a transport: ends our direction, throws away what comes, until the peer closes, 2 s or 4 MiB."""

    __slots__ = ("_gone", "_taken", "_transport", "deadline", "queued")

    def __init__(
        self, transport: asyncio.Transport, deadlines: Deadlines, now: float, gone: Callable[[], None] | None
    ) -> None:
        """`gone` is called when the connection is lost."""
        self._transport = transport
        self._gone = gone
        self._taken = 0
        self.queued: float | None = None
        self.deadline: float | None = now + _SECONDS
        deadlines.watch(self)
        transport.pause_reading()  # uvloop settles how to read when reading starts
        transport.set_protocol(self)
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()

    def get_buffer(self, sizehint: int) -> bytearray:
        return _VOID

    def buffer_updated(self, nbytes: int) -> None:
        self._taken += nbytes
        if self._taken > _BYTES:
            self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline = None
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    def handle_timer(self, now: float) -> None:
        self.deadline = None
        self._transport.abort()
