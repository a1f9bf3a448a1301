"""One WebSocket connection: RFC 6455's server side over picows' frame parser.

The two faces a gateway sees are `WebSocketHandler` (what it gives us) and `WebSocket` (what it gets).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from smart_router.gateways.request import HttpRequest

__all__ = ["WebSocket", "WebSocketHandler"]


class WebSocketHandler(Protocol):
    """What a gateway gives us, one per connection. Nothing is called before `opened` or after `closed`."""

    def opened(self, socket: WebSocket) -> None:
        """The handshake is done: the socket may be written to."""

    def text(self, data: bytes) -> None:
        """One whole text message, checked to be UTF-8."""

    def binary(self, data: bytes) -> None:
        """One whole binary message."""

    def pong(self, data: bytes) -> None:
        """A pong, solicited or not, with its payload."""

    def before_flush(self) -> None:
        """Called right before this connection's collected frames leave in one write: the last chance to append."""

    def writable(self, ok: bool) -> None:
        """False once the transport's buffer passed the high-water mark, True when it is below the low one again."""

    def closed(self, code: int, reason: str) -> None:
        """The connection is gone; called exactly once. 1005: the peer gave no code; 1006: no close frame came."""


class WebSocket:
    """One open connection. `send_*` after `close` or `abort` is silently nothing: the mailbox keeps what was not confirmed."""

    __slots__ = ("request",)

    request: HttpRequest

    def send_text(self, *parts: bytes) -> None:
        """Queue one text message, the concatenation of `parts` (UTF-8, not checked).

        The frames of one loop turn leave in one write per connection.
        """
        raise NotImplementedError

    def send_binary(self, data: bytes) -> None:
        """Queue one binary message."""
        raise NotImplementedError

    def ping(self, data: bytes = b"") -> None:
        """Queue a ping of at most 125 bytes; the answer comes to the handler's `pong`."""
        raise NotImplementedError

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake: nothing more is delivered, `closed` follows within the close deadline."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the transport at once, without a close frame; what was sent and not flushed may be lost."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Take no more bytes from the peer; messages already read may still be delivered."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        raise NotImplementedError

    @property
    def buffered(self) -> int:
        """Bytes waiting in the transport and in the cork."""
        raise NotImplementedError
