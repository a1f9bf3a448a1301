"""picows as a frame parser only: its handshake is played to it, what it would write or close is told to the WebSocket.

picows' protocol class is not public API: pyproject.toml pins the minor version,
tests/gateways/test_websocket_parser.py holds what is relied on here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from picows import WSAutoPingStrategy, WSListener, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows import picows as _picows

if TYPE_CHECKING:
    from smart_router.gateways.websocket import WebSocket

__all__ = ["Parser", "feed", "grown", "open_parser"]


class _Silent:
    """A logger that is none: for a real one picows makes a child per connection, and its lines lead nowhere here."""

    def isEnabledFor(self, _: int) -> bool:  # noqa: N802 (logging's name)
        return False

    def debug(self, *_: object) -> None:
        """Nowhere."""

    info = warning = error = exception = log = debug


_SILENT = _Silent()

# The real handshake is answered in upgrade.py. This one only brings picows into the state in which it reads frames.
_HEAD = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_RESPONSE = WSUpgradeResponse.create_101_response()
_CLOSE = 0x88
_BUFFER = 2048  # bytes that a connection begins with, the least that picows allows
_FREE = 1792  # of these for data


class Parser(Protocol):
    """The part of picows' WSProtocol that we use: an asyncio.BufferedProtocol, server side."""

    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def connection_made(self, transport: object) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class _NoSocket:
    """Stands for the socket whose options picows sets: uvloop has set TCP_NODELAY, the others are not wanted."""

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: object) -> None:
        """Not wanted."""

    def getsockopt(self, *_: object) -> int:
        return 0


_NO_SOCKET = _NoSocket()


class _Wire:
    """The transport that picows sees. `get_write_buffer_size` is never 0, so that nothing goes past `write`."""

    __slots__ = ("socket",)

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket

    def get_extra_info(self, name: str, default: object = None) -> object:
        return _NO_SOCKET if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: bytes) -> None:
        """The played handshake's answer, or the close frame with which picows answers broken frames."""
        if data[0] == _CLOSE:
            self.socket.broken(int.from_bytes(data[2:4], "big"))

    def close(self) -> None:
        """picows' timer after a broken frame; the WebSocket closes by itself."""

    abort = close


def open_parser(socket: WebSocket, max_frame: int) -> Parser:
    """A parser that gives its frames to `socket`, with no bytes in it."""

    def listener(request: Any) -> WSUpgradeResponseWithListener:
        requests.append(request)
        return WSUpgradeResponseWithListener(_RESPONSE, cast(WSListener, socket))

    requests: list[Any] = []
    parser = _picows.WSProtocol(  # type: ignore[attr-defined]
        None, None, False, listener, _SILENT, True, None, False, 20, 20, WSAutoPingStrategy.PING_WHEN_IDLE,
        False, max_frame, None, _BUFFER,
    )  # fmt: skip
    parser.connection_made(_Wire(socket))
    feed(parser, _HEAD)
    requests[0].headers = None  # 1 kB that nobody reads again
    requests[0].path = None
    return cast(Parser, parser)


def grown(parser: Parser) -> int:
    """Bytes that its buffer has grown by, as far as can be told from outside.

    The buffer doubles when it is nearly full, and shows its free end only. Idle: exact. In a frame it may be half of
    the truth; an eighth for who stops just before the buffer doubles, until its heartbeat fails, for a frame lets no
    pong through.
    """
    free = len(parser.get_buffer(0))
    size = _FREE
    while size < free:
        size *= 2
    return size - _FREE


def feed(parser: Parser, data: bytes) -> None:
    """Bytes that were read before the parser had the transport."""
    rest = memoryview(data)
    while rest:
        room = parser.get_buffer(len(rest))
        size = min(len(room), len(rest))
        room[:size] = rest[:size]
        parser.buffer_updated(size)
        rest = rest[size:]
