"""Socket.IO 5 over Engine.IO 4: connections of many namespaces, each a socket with a handler of the application.

    Engine.IO message ─► SocketConnection (no I/O) ─► handler.event / acknowledgement
    Socket.deliver ─► frames of the loop turn ─► before_flush: ping ─► client ─► pong ─► handler.confirm

The barrier: what a socket has delivered is proven by the answer to a ping written behind it. One ping at a time
is on its way; the next goes out with the next write, or at once if something waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Final, NamedTuple

import msgspec

from smart_router.clock import Clock, Deadlines
from smart_router.config.schema import GatewaySettings, LimitSettings
from smart_router.errors import ProtocolError, Refused, RouterError
from smart_router.gateways.base import BinaryApplication
from smart_router.gateways.engine_connection import EngineConnection
from smart_router.gateways.engineio import EngineGateway
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.request import HttpRequest
from smart_router.gateways.socketio_socket import Names, NamespaceSocket
from smart_router.protocols.engineio import Transport
from smart_router.protocols.json_limits import check_json
from smart_router.protocols.socketio import (
    CONNECT,
    DISCONNECT,
    EVENT,
    ConnectData,
    Limits,
    Packet,
    SocketConnection,
    decode_acknowledgement,
    decode_event,
)
from smart_router.protocols.socketio_data import decode_connect
from smart_router.protocols.socketio_packet import BINARY_EVENT

__all__ = ["SocketIOConnection", "SocketIOGateway", "SocketIOStatistics"]

_NORMAL: Final = 1000
_BRACKET: Final = 0x5D
_BRACKET_OPEN: Final = 0x5B
_ZERO: Final = 0x30
_ID_DIGITS: Final = 16  # and the bracket behind them: longer ids take the long way
_INVALID_NAMESPACE: Final = "Invalid namespace"


class SocketIOStatistics(NamedTuple):
    """EngineGatewayStatistics, and of the namespaces: what there is now, then counters since the start."""

    connections: int
    polling: int
    opened: int
    upgrades: int
    handshakes_refused: int
    requests_refused: int
    protocol_errors: int
    timed_out: int
    handler_errors: int
    ignored_pongs: int
    sockets: int  # namespaces joined
    connects: int
    connects_refused: int
    events: int
    barriers: int  # pings beyond the heartbeat


class SocketIOGateway(EngineGateway):
    """Serves `application` to Socket.IO clients on one path."""

    def __init__(
        self,
        settings: GatewaySettings,
        application: BinaryApplication,
        deadlines: Deadlines,
        clock: Clock,
        limits: LimitSettings | None = None,
        origins: OriginRule | None = None,
    ) -> None:
        super().__init__(settings, deadlines, clock, limits, origins)
        limits = limits if limits is not None else LimitSettings()
        self.application = application
        self.names = Names()
        self.limits = Limits(
            depth=limits.nesting,
            namespace_bytes=limits.namespace_bytes,
            namespaces=limits.namespaces,
            attachments=limits.attachments,
            message_bytes=settings.max_payload,
            connect_timeout=settings.connect_timeout,
        )
        self.sockets = self.connects = self.connects_refused = self.events = self.barriers = 0
        self._joining: set[asyncio.Future[None]] = set()

    def run(self, work: Coroutine[None, None, None]) -> None:
        """What a client's CONNECT waits for."""
        task = asyncio.ensure_future(work)
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def new_connection(self, request: HttpRequest, transport: Transport) -> SocketIOConnection:
        return SocketIOConnection(self, request, transport)

    def statistics(self) -> SocketIOStatistics:
        return SocketIOStatistics(
            *self.engine_statistics(), self.sockets, self.connects, self.connects_refused, self.events, self.barriers
        )


class SocketIOConnection(EngineConnection):
    """One client: its namespaces, and the pings that prove what they delivered."""

    __slots__ = ("_gateway", "_marks", "_only", "_protocol", "_sockets", "unproven")

    def __init__(self, gateway: SocketIOGateway, request: HttpRequest, transport: Transport) -> None:
        super().__init__(gateway, request, transport)
        self._gateway = gateway
        self._protocol = SocketConnection(gateway.now(), gateway.limits)
        self._sockets: dict[str, NamespaceSocket] = {}
        self._only: NamespaceSocket | None = None  # the one namespace that is joined; None in a binary packet too
        self.unproven: list[NamespaceSocket] = []  # have delivered since the last ping
        self._marks: list[tuple[int, NamespaceSocket, int]] = []  # what the answer to that ping will prove

    # What comes in

    def text(self, data: bytes) -> None:
        if self._only is None or not self._usual_event(data, self._only):
            super().text(data)

    def message(self, data: bytes) -> None:
        try:
            packet = self._protocol.receive_text(data, self.now())
            if packet is not None and packet.type == EVENT:
                name, args = decode_event(packet.data, self._gateway.limits.depth)
                self._gateway.events += 1
                self._gateway.names.learn(name, packet.data)
                self._sockets[packet.namespace].handler.event(name, args, (), packet.ack_id)
            elif packet is not None:
                self._act(packet)
            else:
                self._only = None
                self.watch()  # attachments are to come
        except ProtocolError as error:
            self.fail(error)

    def _usual_event(self, data: bytes, socket: NamespaceSocket) -> bool:
        """An event with one argument and a name that was heard before, for the only namespace: nothing is taken apart.

        False: `message` looks at it properly, and finds what is wrong with it.
        """
        if not data.startswith(socket.packet_head) or data[-1] != _BRACKET:
            return False
        start = len(socket.packet_head)
        bracket = start if data[start] == _BRACKET_OPEN else data.find(b"[", start, start + _ID_DIGITS)
        comma = data.find(b",", bracket)
        name = self._gateway.names.heard(data[bracket:comma])
        if name is None:
            return False
        ack_id = None
        if bracket > start:
            digits = data[start:bracket]
            if not digits.isdigit() or digits[0] == _ZERO:
                return False
            ack_id = int(digits)
        elif bracket < start:
            return False
        try:
            check_json(data, self._gateway.limits.depth)
        except ProtocolError as error:
            self.fail(error)
            return True
        if not socket.handler.message(name, data[comma + 1 : -1], ack_id):
            return False
        self._gateway.events += 1
        return True

    def binary(self, data: bytes) -> None:
        try:
            packet = self._protocol.receive_binary(data)
            if packet is not None:
                self._only = self._find_only()
                self._act(packet)
        except ProtocolError as error:
            self.fail(error)

    def _find_only(self) -> NamespaceSocket | None:
        return next(iter(self._sockets.values())) if len(self._sockets) == 1 else None

    def _act(self, packet: Packet) -> None:
        depth = self._gateway.limits.depth
        if packet.type == CONNECT:
            self._connect(packet)
        elif packet.type == DISCONNECT:
            self._forget(packet.namespace, by_client=True)
        elif packet.type == BINARY_EVENT:
            name, args = decode_event(packet.data, depth)
            self._gateway.events += 1
            self._sockets[packet.namespace].handler.event(name, args, packet.frames, packet.ack_id)
        elif packet.ack_id is not None:
            answer = decode_acknowledgement(packet.data, depth)
            self._sockets[packet.namespace].handler.acknowledgement(packet.ack_id, answer, packet.frames)

    def _connect(self, packet: Packet) -> None:
        gateway, namespace = self._gateway, packet.namespace
        auth = decode_connect(packet.data, gateway.limits.depth)
        socket = NamespaceSocket(self, namespace, gateway.names)
        try:
            if self._protocol.has_too_many:
                limit = gateway.limits.namespaces
                raise Refused("too_many_namespaces", f"A connection joins at most {limit} namespaces.", limit=limit)
            waits = gateway.application.prepare(socket, auth)
        except RouterError as error:
            self._not_joined(socket, error)
            return
        if waits is None:
            self._join(socket, auth)
        else:
            gateway.run(self._join_later(waits, socket, auth))

    async def _join_later(self, waits: Awaitable[None], socket: NamespaceSocket, auth: ConnectData) -> None:
        try:
            await waits
        except RouterError as error:
            self._not_joined(socket, error)
            return
        try:
            self._join(socket, auth)
        except ProtocolError as error:
            self.fail(error)

    def _not_joined(self, socket: NamespaceSocket, error: RouterError) -> None:
        self._gateway.connects_refused += 1
        socket.connection = None
        if self.session.close_reason is None:
            self._refuse(socket.namespace, error)

    def _join(self, socket: NamespaceSocket, auth: ConnectData) -> None:
        gateway, namespace = self._gateway, socket.namespace
        if self.session.close_reason is not None:
            socket.connection = None
            return
        try:
            socket.handler = gateway.application.connect(socket, auth)
        except RouterError as error:
            self._not_joined(socket, error)
            return
        answer = None
        if self.session.close_reason is None:  # else the application has ended the connection
            answer = self._protocol.accept(namespace, socket.id, socket.pid)
        if answer is None:
            socket.connection = None
            socket.give_up_handler().closed(by_client=False)
            return
        gateway.connects += 1
        gateway.sockets += 1
        self._sockets[namespace] = socket
        self._only = self._find_only()
        self.write(answer)
        if socket.connection is not None:
            socket.handler.opened()

    def _refuse(self, namespace: str, error: RouterError) -> None:
        if isinstance(error, ProtocolError):
            raise error
        data = None if error.message == _INVALID_NAMESPACE else msgspec.json.encode(error.as_dict())
        answer = self._protocol.refuse(namespace, error.message, data)
        if answer is not None:
            self.write(answer)

    # Barriers

    @property
    def ping_interval(self) -> float:
        return self._gateway.settings.ping_interval

    @property
    def ping_awaited(self) -> bool:
        session = self.session
        return session.pings_answered < session.pings_sent

    def before_flush(self) -> None:
        # While reading is paused an answer would not be heard.
        if self.unproven and not self.ping_awaited and not self._paused and self._mark(self.session.pings_sent + 1):
            self._gateway.barriers += 1
            self.ping()

    def pinging(self) -> None:
        if self.unproven:
            self._mark(self.session.pings_sent)

    def _mark(self, number: int) -> bool:
        """Notes what the answer to that ping will prove. False: nothing."""
        before = len(self._marks)
        for socket in self.unproven:
            socket.unproven = False
            mark = socket.handler.mark()
            if mark > 0:
                self._marks.append((number, socket, mark))
        self.unproven.clear()
        return len(self._marks) > before

    def proven(self) -> None:
        for socket in list(self._sockets.values()) if len(self._sockets) > 1 else self._sockets.values():
            socket.handler.heartbeat()
        marks, answered = self._marks, self.session.pings_answered
        while marks and marks[0][0] <= answered:
            _, socket, mark = marks.pop(0)
            if socket.connection is not None:
                socket.handler.confirm(mark)
        if self.unproven:
            self.flush_soon()  # behind what this loop turn still writes

    # Space, time, end

    def writable(self, ok: bool) -> None:
        for socket in list(self._sockets.values()):
            if socket.connection is not None:  # an earlier one may have left the others' namespaces
                socket.handler.writable(ok)

    def other_deadline(self) -> float | None:
        return self._protocol.next_deadline()

    def other_timer(self, now: float) -> None:
        self._protocol.handle_timer(now)

    def leave(self, socket: NamespaceSocket) -> None:
        """Our DISCONNECT; the last one ends a WebSocket with it. Over polling the client does that."""
        packet = self._protocol.leave(socket.namespace)
        if packet is not None:
            self.write(packet)
        self._forget(socket.namespace, by_client=False)
        if not self._sockets and self.websocket is not None:
            self.end("the last namespace was left", _NORMAL)

    def _forget(self, namespace: str, by_client: bool) -> None:
        socket = self._sockets.pop(namespace, None)
        if socket is None:
            return
        self._gateway.sockets -= 1
        self._only = self._find_only()
        socket.connection = None
        if socket in self.unproven:
            self.unproven.remove(socket)
        socket.give_up_handler().closed(by_client)

    def ended(self) -> None:
        # Deadlines holds on to us until our last time has passed: the attachments that we were waiting for go now.
        self._protocol = SocketConnection(0.0, self._gateway.limits)
        for namespace in list(self._sockets):
            try:
                self._forget(namespace, by_client=False)
            except Exception as error:
                self._gateway.counters.handler_errors += 1
                self._gateway.log.error("engineio_handler_error", exc_info=error, peer=self.request.peer)
