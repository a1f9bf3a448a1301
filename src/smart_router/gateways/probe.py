"""A WebSocket that names a polling session: it probes, then carries that session (Engine.IO's transport upgrade)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smart_router.errors import ProtocolError
from smart_router.gateways.websocket import WebSocket

if TYPE_CHECKING:
    from smart_router.gateways.engine_connection import EngineConnection

__all__ = ["Probe", "TooLate"]


class Probe:
    """gateways.websocket.WebSocketHandler: `2probe`, `3probe`, `5`, and from there on the connection's own."""

    __slots__ = ("_carries", "_connection", "_websocket")

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._carries = False
        self._websocket: WebSocket | None = None

    def opened(self, socket: WebSocket) -> None:
        connection = self._connection
        try:
            connection.session.begin_upgrade(connection.now())
        except ProtocolError as error:
            socket.close(error.close_code, error.message)
            return
        assert connection.polling is not None
        self._websocket = socket
        connection.polling.probe = self
        connection.watch()

    def text(self, data: bytes) -> None:
        if self._carries:
            self._connection.text(data)
        else:
            self._probe(data)

    def _probe(self, data: bytes) -> None:
        connection, websocket = self._connection, self._websocket
        assert websocket is not None
        try:
            answer = connection.session.receive_probe(data)
        except ProtocolError as error:
            self.close(error.close_code, error.message)
            return
        if answer is None:
            self._carries = True
            connection.upgraded(websocket)
        else:
            websocket.send_text(answer)
            if connection.polling is not None:
                connection.polling.schedule()

    def close(self, code: int, reason: str) -> None:
        """The upgrade has failed, or the session has ended; polling goes on if it can."""
        if self._websocket is not None:
            self._websocket.close(code, reason)
        polling = self._connection.polling
        if polling is not None and polling.probe is self:
            polling.probe = None

    def binary(self, data: bytes) -> None:
        if self._carries:
            self._connection.binary(data)
        else:
            self._connection.session.abort_upgrade()
            self.close(1002, "not a packet of an upgrade")

    def pong(self, data: bytes) -> None:
        """A WebSocket pong proves nothing to Engine.IO."""

    def before_flush(self) -> None:
        if self._carries:
            self._connection.before_flush()

    def writable(self, ok: bool) -> None:
        if self._carries:
            self._connection.writable(ok)

    def closed(self, code: int, reason: str) -> None:
        if self._carries:
            self._connection.closed(code, reason)
            return
        polling = self._connection.polling
        if polling is not None and polling.probe is self:
            polling.probe = None
            self._connection.session.abort_upgrade()


class TooLate:
    """A WebSocket for a session that is on another one already: closed, the session unharmed."""

    __slots__ = ()

    def opened(self, socket: WebSocket) -> None:
        socket.close(1008, "this session is on another WebSocket")

    def text(self, data: bytes) -> None:
        """Not called: the socket is closing."""

    binary = pong = text

    def before_flush(self) -> None:
        """Nothing to add."""

    def writable(self, ok: bool) -> None:
        """Nothing is written."""

    def closed(self, code: int, reason: str) -> None:
        """Nothing to end."""
