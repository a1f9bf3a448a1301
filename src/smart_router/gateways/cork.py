"""What all WebSockets of a listener share: the cork, limits, deadlines, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smart_router.clock import Deadlines
from smart_router.gateways.accesslog import AccessLog
from smart_router.gateways.peers import Peer

if TYPE_CHECKING:
    from smart_router.gateways.outgoing import Outgoing
    from smart_router.gateways.websocket import WebSocket

__all__ = ["Cork", "Counters"]


class Counters:
    """The counters of ListenerStatistics, written where things happen."""

    def __init__(self) -> None:
        self.accepted = 0
        self.connections_refused = 0
        self.half_open_closed = 0
        self.heads_late = 0
        self.bodies_late = 0
        self.tls_failed = 0
        self.proxy_headers_bad = 0
        self.requests = 0
        self.answers = 0
        self.requests_refused = 0
        self.application_errors = 0
        self.handshakes_refused = 0
        self.origins_refused = 0
        self.websockets_opened = 0
        self.websockets_closed = 0
        self.websockets_failed = 0
        self.control_floods = 0
        self.buffers_closed = 0
        self.handler_errors = 0
        self.pings = 0
        self.pongs = 0
        self.writes = 0


class Cork:
    """Collects what one loop turn has for each connection; one write per connection when the turn is over."""

    __slots__ = (
        "_loop",
        "_turn",
        "access",
        "clock",
        "close_timeout",
        "control_per_second",
        "counters",
        "deadlines",
        "fragments",
        "log",
        "lost",
        "open",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deadlines: Deadlines, log: Any, lost: Callable[[Peer], None]
    ) -> None:
        """`lost` is called once for each connection that is gone."""
        self._loop = loop
        self.clock = loop.time  # the monotonic clock
        self.deadlines = deadlines
        self.log = log
        self.lost = lost
        self.close_timeout = 5.0  # for the peer's close frame, or for the last bytes to leave
        self.control_per_second = 1000
        self.fragments = 1024
        self.access: AccessLog | None = None
        self.counters = Counters()
        self.open: set[WebSocket] = set()
        self._turn: list[Outgoing] = []

    def add(self, socket: Outgoing) -> None:
        """The socket's first frame of this turn."""
        if not self._turn:
            self._loop.call_soon(self._flush)
        self._turn.append(socket)

    def _flush(self) -> None:
        turn, self._turn = self._turn, []
        self.counters.writes += len(turn)
        for socket in turn:
            try:
                socket.flush()
            except Exception as error:
                self.log.error(
                    "websocket_write_error", exc_info=error
                )  # the others of this turn are written all the same
                socket.abort()

    def soon(self, call: Callable[[], None]) -> None:
        """When the present callback is over."""
        self._loop.call_soon(call)
