"""What a gateway gives the socket layer for each WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from smart_router.gateways.websocket import WebSocket

__all__ = ["NOBODY", "WebSocketHandler"]


class WebSocketHandler(Protocol):
    """What a gateway gives us, one per connection. Nothing is called before `opened` or after `closed`.

    A method that raises costs its own connection only: it is closed with 1011 and logged.
    """

    def opened(self, socket: WebSocket) -> None:
        """The handshake is done: the socket may be written to."""

    def text(self, data: bytes) -> None:
        """One whole text message, checked to be UTF-8."""

    def binary(self, data: bytes) -> None:
        """One whole binary message."""

    def pong(self, data: bytes) -> None:
        """A pong, asked for or not, with its payload."""

    def before_flush(self) -> None:
        """Called right before this connection's collected frames leave in one write: the last chance to append."""

    def writable(self, ok: bool) -> None:
        """False once the transport's buffer passed the high-water mark, True when it is below the low one again."""

    def closed(self, code: int, reason: str) -> None:
        """Nothing is delivered any more, what is sent goes nowhere; called exactly once.

        `code` is that of the close frame which came first, ours or the peer's; 1005: the peer's had none; 1006: the
        connection went without one.
        """


class _Nobody:
    """The handler after the end: not one call reaches it."""

    def opened(self, socket: WebSocket) -> None:
        raise AssertionError

    def text(self, data: bytes) -> None:
        raise AssertionError

    def before_flush(self) -> None:
        raise AssertionError

    def writable(self, ok: bool) -> None:
        raise AssertionError

    def closed(self, code: int, reason: str) -> None:
        raise AssertionError

    binary = pong = text


NOBODY = _Nobody()
