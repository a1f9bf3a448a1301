"""What a client asks of its connection, and the one over a WebSocket. Foreign exceptions end here, as `Cut`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from smart_router.client.errors import Cut
from smart_router.client.settings import ClientSettings
from smart_router.protocols.plain import SUBPROTOCOL
from smart_router.protocols.plain_close import MAX_DELAY, CloseCode, delay_of

__all__ = ["Opener", "Transport", "open_websocket"]

ABNORMAL = 1006


class Transport(Protocol):
    """One open connection: frames of the plain protocol in order, both ways. Every end is a `Cut`."""

    async def send(self, frame: bytes) -> None:
        """Returns when there is room for the next."""

    async def receive(self) -> bytes: ...

    async def close(self) -> None:
        """Says goodbye, and is gone within `settings.drain` whatever the server does; never raises."""


Opener = Callable[[str, ClientSettings], Awaitable[Transport]]
"""(url, settings) → an open connection; raises Cut, or ValueError for a URL that can't be right."""


class _WebSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, frame: bytes) -> None:
        try:
            await self._connection.send(frame, text=True)
        except ConnectionClosed as closed:
            raise _cut(closed) from closed

    async def receive(self) -> bytes:
        try:
            return await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            raise _cut(closed) from closed

    async def close(self) -> None:
        await self._connection.close()


async def open_websocket(url: str, settings: ClientSettings) -> Transport:
    """The default `Opener`: `ws://` or `wss://`, through the proxy that the environment names."""
    try:
        connection = await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=settings.max_frame,
            open_timeout=settings.open_timeout,
            close_timeout=settings.drain,
            ping_interval=settings.ping_interval,
            ping_timeout=settings.ping_timeout,
        )
    except InvalidURI as error:
        raise ValueError(f"{url} is not the URL of a WebSocket") from error
    except InvalidStatus as error:
        retry_after = error.response.headers.get("Retry-After", "")
        delay = min(float(retry_after), MAX_DELAY) if retry_after.isascii() and retry_after.isdigit() else None
        raise Cut(_code_of(error.response.status_code), f"HTTP {error.response.status_code}", delay) from error
    except (OSError, TimeoutError, InvalidHandshake) as error:
        raise Cut(ABNORMAL, str(error) or type(error).__name__) from error
    return _WebSocket(connection)


def _cut(closed: ConnectionClosed) -> Cut:
    """The server's close frame; if we sent the first one (its keep-alive found no answer), it is a lost connection."""
    frame = closed.rcvd
    if frame is None:
        return Cut(ABNORMAL)
    return Cut(frame.code, frame.reason, delay_of(frame.reason))


def _code_of(status: int) -> int:
    """The close code that says the same as an HTTP answer to the handshake."""
    if status == HTTPStatus.UNAUTHORIZED:
        return CloseCode.UNAUTHORIZED
    if status == HTTPStatus.FORBIDDEN:
        return CloseCode.FORBIDDEN
    later = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
    return CloseCode.BUSY if later else CloseCode.PROTOCOL_ERROR
