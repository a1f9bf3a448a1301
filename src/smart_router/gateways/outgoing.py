"""The writing half of a WebSocket: frames collected in a loop turn, written once."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final

from picows import WSListener

from smart_router.gateways.cork import Cork
from smart_router.gateways.frames import BINARY, PING, PONG, TEXT, head
from smart_router.gateways.handler import WebSocketHandler

__all__ = ["CLOSING", "ENDED", "OPEN", "Outgoing"]

_TEXT_HEADS: Final = [head(TEXT, size) for size in range(1024)]

# States: what still happens. Only OPEN is false.
OPEN: Final = 0
CLOSING: Final = 1  # our close frame is on its way: the peer's is waited for, nothing is delivered
ENDED: Final = 2  # `closed` was called: bytes may still leave, none are read as frames


class Outgoing(WSListener):
    """See WebSocket, which is the other half; picows wants its listener's type below both."""

    __slots__ = ("_cork", "_frames", "_handler", "_pings_awaited", "_pong_held", "_state", "_transport", "_writable")

    def __init__(self, transport: asyncio.Transport, handler: WebSocketHandler, cork: Cork) -> None:
        self._transport = transport
        self._handler = handler
        self._cork = cork
        self._state = OPEN
        self._frames: list[bytes] = []
        self._writable = True
        self._pings_awaited = 0  # ours, not answered
        self._pong_held: bytes | None = None  # the newest ping that came while the transport was full

    def send_text(self, *parts: bytes) -> None:
        """Queue one text message, the concatenation of `parts` (UTF-8, not checked).

        The frames of one loop turn leave in one write per connection.
        """
        if self._state:
            return
        frames = self._frames
        if not frames:
            self._cork.add(self)
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        frames.append(_TEXT_HEADS[size] if size < 1024 else head(TEXT, size))
        frames += parts

    def send_binary(self, data: bytes) -> None:
        """Queue one binary message."""
        if not self._state:
            self._append(BINARY, data)

    def ping(self, data: bytes = b"") -> None:
        """Queue a ping of at most 125 bytes; the answer comes to the handler's `pong`."""
        if len(data) > 125:
            raise ValueError("a ping carries at most 125 bytes")
        if not self._state:
            self._pings_awaited += 1
            self._append(PING, data)

    @property
    def buffered(self) -> int:
        """Bytes waiting in the transport and in the cork."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._frames))

    def _append(self, first: int, data: bytes) -> None:
        if not self._frames:
            self._cork.add(self)
        self._frames += (head(first, len(data)), data)

    def flush(self) -> None:
        """The cork's call, once per loop turn in which something was sent."""
        frames = self._frames
        if not self._state:
            try:
                self._handler.before_flush()
            except Exception as error:  # noqa: BLE001 (as in start)
                self._handler_raised(error)
        if frames:
            self._transport.write(b"".join(frames))
            frames.clear()

    def pause_writing(self) -> None:
        """The transport's call, through the parser: the buffer passed the high-water mark."""
        self._writable = False
        self._tell_writable()

    def resume_writing(self) -> None:
        """Below the low-water mark again. A ping that came meanwhile is answered, the newest only (5.5.3)."""
        self._writable = True
        if self._pong_held is not None and not self._state:
            self._append(PONG, self._pong_held)
        self._pong_held = None
        self._tell_writable()

    def _tell_writable(self) -> None:
        if not self._state:
            try:
                self._handler.writable(self._writable)
            except Exception as error:  # noqa: BLE001 (as in start)
                self._handler_raised(error)

    @abstractmethod
    def abort(self) -> None:
        """See WebSocket."""

    @abstractmethod
    def _handler_raised(self, error: Exception) -> None:
        """The gateway's fault: this connection ends with 1011."""
