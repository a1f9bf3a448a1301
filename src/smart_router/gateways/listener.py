"""Sockets, limits and the list of all connections: one port for HTTP/1.1 and WebSocket."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import msgspec

from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.websocket import WebSocketHandler

__all__ = ["Application", "Decide", "Listener", "ListenerSettings", "ListenerStatistics"]

Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]
Decide = Callable[[HttpRequest], WebSocketHandler | Refusal]


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All limits of one listening port; times in seconds, sizes in bytes, 0 = no limit where it says so."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one, see Listener.addresses
    tls: ssl.SSLContext | None = None
    max_message: int = 131_072  # one WebSocket message, all its fragments
    max_body: int = 1_048_576  # one HTTP request body


class ListenerStatistics(NamedTuple):
    """Counters since the start, and what there is now."""

    connections: int = 0
    websockets: int = 0


class Listener:
    """Serves `app` over HTTP/1.1 and what `websockets` accepts over WebSocket, on one port."""

    def __init__(self, settings: ListenerSettings, app: Application, websockets: Decide) -> None:
        raise NotImplementedError

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every bound socket, after `start`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Bind and accept; OSError if the address can't be had."""
        raise NotImplementedError

    async def drain(self, seconds: float) -> None:
        """Stop accepting; return once all HTTP answers have ended and the WebSockets are gone, or after `seconds`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close everything that is left."""
        raise NotImplementedError

    def statistics(self) -> ListenerStatistics:
        """The counters, as of now."""
        raise NotImplementedError
