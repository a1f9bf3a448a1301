"""What is known of a request when it is decided upon: before any body, before any upgrade."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HttpRequest", "Refusal"]


class Refusal(NamedTuple):
    """The answer to an upgrade that is not allowed: an ordinary HTTP response, after which the connection closes."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class HttpRequest:
    """A request head. After a WebSocket handshake `headers` is emptied: take what is needed in
    `websockets(request)`."""

    __slots__ = ("headers", "host", "max_message", "path", "peer", "query", "scheme", "subprotocol", "subprotocols")

    def __init__(
        self,
        path: str,
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        peer: str = "",
        scheme: str = "http",
        host: str = "",
    ) -> None:
        self.path = path  # percent-decoded
        self.query = query  # as it came, without "?"
        self.headers = headers if headers is not None else []  # names in lower case, in order
        self.peer = peer  # the client's IP address, as seen behind trusted proxies; "" on a Unix socket
        self.scheme = scheme  # "http" or "https", as the client sees it
        self.host = host  # authority the client asked for, in lower case
        self.subprotocols: tuple[str, ...] = ()  # what the client offers, in its order
        self.max_message = 131_072  # bytes; the listener's limit, which `websockets(request)` may change for its path
        self.subprotocol: str | None = None  # what `websockets(request)` chose out of them, or None

    def header(self, name: bytes) -> bytes | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)
