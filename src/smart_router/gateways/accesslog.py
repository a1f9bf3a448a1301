"""The access log (`[log] access`): one line for each HTTP request, two for each WebSocket; never a query or a header.

Whoever has none (None) pays nothing; a message on an open connection costs nothing either way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from smart_router.gateways.request import HttpRequest
from smart_router.telemetry import ACCESS_LOG

__all__ = ["AccessLog"]

Send = Callable[[Any], Awaitable[None]]


class AccessLog:
    """`http_request` when its answer begins; `connected`, `disconnected` of WebSockets. `clock`: monotonic seconds."""

    __slots__ = ("_clock", "_log")

    def __init__(self, clock: Callable[[], float], log: Any = None) -> None:
        self._clock = clock
        self._log = log if log is not None else structlog.get_logger(ACCESS_LOG)

    def watch(self, scope: MutableMapping[str, Any], send: Send) -> Send:
        """An ASGI `send` that writes the line. A request without an answer has none: it is `http_refused`, or gone."""
        begun = self._clock()
        client = scope.get("client") or ("",)

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._log.info(
                    "http_request",
                    method=scope["method"],
                    path=scope["path"],
                    status=message["status"],
                    ms=round((self._clock() - begun) * 1000, 1),
                    peer=client[0],
                )
            await send(message)

        return watched

    def connected(self, request: HttpRequest) -> None:
        self._log.info("connected", path=request.path, peer=request.peer)

    def disconnected(self, request: HttpRequest, code: int) -> None:
        """`code`: of the first close frame; 1005: it had none, 1006: there was no such frame."""
        self._log.info("disconnected", path=request.path, peer=request.peer, code=code)
