"""The plain JSON protocol's gateway: one WebSocket is one socket (docs/plain-protocol.md).

opened ──whoareyou──► identify ──Application.connect──► handler.opened ──► hello, deliveries
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, NamedTuple

import msgspec
import structlog

from smart_router.clock import Clock, Deadlines
from smart_router.config.schema import GatewaySettings, LimitSettings
from smart_router.errors import ProtocolError, Refused, RouterError
from smart_router.gateways.base import Application, CloseReason, SocketHandler
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.websocket import WebSocket
from smart_router.message import is_address
from smart_router.protocols.plain import (
    SUBPROTOCOL,
    Ack,
    ClientFrame,
    Hello,
    Identify,
    Nack,
    Ping,
    Read,
    Refresh,
    Reply,
    Send,
    choose_subprotocol,
    decode_client,
    encode,
    encode_answer,
    encode_deliver,
    encode_error,
    encode_event,
)
from smart_router.protocols.plain_close import CloseCode, delay_reason
from smart_router.protocols.socketio import ConnectData

__all__ = ["PlainGateway", "PlainSocket", "PlainStatistics"]

_encode: Final = msgspec.json.Encoder().encode
_NULL: Final = msgspec.Raw(b"null")
_CLOSE: Final = {
    CloseReason.EXPIRED: CloseCode.UNAUTHORIZED,
    CloseReason.REVOKED: CloseCode.FORBIDDEN,
}
_log = structlog.get_logger("smart_router.plain")


class PlainStatistics(NamedTuple):
    connections: int
    opened: int
    protocol_errors: int
    timed_out: int


class PlainGateway:
    """All plain connections of one path."""

    def __init__(
        self,
        settings: GatewaySettings,
        application: Application,
        deadlines: Deadlines,
        clock: Clock,
        limits: LimitSettings | None = None,
    ) -> None:
        self.settings = settings
        self.limits = limits if limits is not None else LimitSettings()
        self.application = application
        self.deadlines = deadlines
        self.now: Callable[[], float] = clock.monotonic
        self.sockets: set[PlainSocket] = set()
        self.opened = self.protocol_errors = self.timed_out = 0
        self._preparing: set[asyncio.Future[None]] = set()

    def run(self, work: Coroutine[None, None, None]) -> None:
        """What a client's identification waits for."""
        task = asyncio.ensure_future(work)
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    def websocket(self, request: HttpRequest) -> PlainSocket | Refusal:
        acceptable, chosen = choose_subprotocol(request.subprotocols)
        if not acceptable:
            text = f"Offer the subprotocol {SUBPROTOCOL}, or none.\n".encode()
            return Refusal(400, ((b"content-type", b"text/plain; charset=utf-8"),), text)
        request.subprotocol = chosen
        request.max_message = self.settings.max_payload
        self.opened += 1
        return PlainSocket(self, request)

    async def drain(self, seconds: float) -> None:
        """Tells every client to come back, each after a delay of its own, so that they do not come all at once."""
        for socket in list(self.sockets):
            socket.end(CloseCode.RESTART, delay_reason(random.uniform(0.1, max(seconds, 1.0))))  # noqa: S311 (spread)

    def statistics(self) -> PlainStatistics:
        return PlainStatistics(len(self.sockets), self.opened, self.protocol_errors, self.timed_out)


class PlainSocket:
    """One connection: gateways.websocket.WebSocketHandler below, gateways.base.Socket above.

    Barriers: the client's own `ack {upto}` once it sends them, else RFC 6455 pings; in `client` mode each answer.
    """

    __slots__ = (
        "_acks", "_gateway", "_handler", "_mark", "_mode", "_n", "_ping_due", "_ping_until", "_preparing",
        "_websocket", "authorization", "id", "namespace", "pid", "queued", "request",
    )  # fmt: skip

    def __init__(self, gateway: PlainGateway, request: HttpRequest) -> None:
        self._gateway = gateway
        self._handler: SocketHandler | None = None
        self._websocket: WebSocket | None = None
        self._acks = False
        self._mode = "received"
        self._n = 0
        self._mark = 0
        self._ping_due = gateway.now() + gateway.settings.connect_timeout
        self._ping_until: float | None = None
        self._preparing = False
        self.id = ""
        self.pid: str | None = None
        self.namespace = ""
        self.request = request
        self.authorization = request.header(b"authorization")
        self.queued: float | None = None

    # gateways.websocket.WebSocketHandler

    def opened(self, socket: WebSocket) -> None:
        self._websocket = socket
        self._gateway.sockets.add(self)
        self._gateway.deadlines.watch(self)
        self._send(encode_event("whoareyou"))

    def text(self, data: bytes) -> None:
        limits = self._gateway.limits
        if self._handler is not None:
            self._handler.heartbeat()
        try:
            self._receive(decode_client(data, limits.nesting, limits.attachments))
        except ProtocolError as error:
            self._gateway.protocol_errors += 1
            self._send(encode_error(error))
            self.end(error.close_code, "protocol error")

    def binary(self, data: bytes) -> None:
        self._gateway.protocol_errors += 1
        self._send(encode_error(ProtocolError("binary frames are not of smart-router.v1")))
        self.end(CloseCode.BINARY, "text frames only")

    def pong(self, data: bytes) -> None:
        if self._ping_until is None:
            return
        self._ping_until = None
        mark, self._mark = self._mark, 0
        if self._handler is None:
            return
        self._handler.heartbeat()
        if self._mode == "client" or (mark and not self._acks):
            self._handler.confirm(mark)
        self.before_flush()
        self._gateway.deadlines.watch(self)  # nearer, where the interval is shorter than the timeout

    def before_flush(self) -> None:
        if self._ping_until is not None or self._acks or self._mode == "client":
            return
        if self._handler is not None and self._handler.mark():
            self.barrier()

    def writable(self, ok: bool) -> None:
        if self._handler is not None:
            self._handler.writable(ok)

    def closed(self, code: int, reason: str) -> None:
        self._gateway.sockets.discard(self)
        self._websocket = None
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.closed(code in (CloseCode.NORMAL, CloseCode.GOING_AWAY))

    # what the client sends

    def _receive(self, frame: ClientFrame) -> None:
        handler = self._handler
        match frame:
            case Send():
                self._receive_send(frame)
            case Ack(upto=upto) if upto:
                self._acks = self._mode != "client"
                if handler is not None and self._mode == "received":
                    handler.confirm(upto)
            case Ack(n=n) if handler is not None:
                handler.acknowledgement(n, frame.answer(), ())
            case Read(ref=ref) | Reply(ref=ref) if handler is not None:
                name, argument = frame.event()
                handler.event(name, (argument,), (), ref)
            case Nack(n=n, reason=reason) if handler is not None:
                handler.acknowledgement(n, (msgspec.Raw(_encode({"nack": reason})),), ())
            case Identify():
                self._identify(frame)
            case Refresh(token=token, ref=ref) if handler is not None:
                handler.event("refresh", (msgspec.Raw(_encode({"token": token})),), (), ref)
            case Ping():
                self._send(encode_event("pong"))
            case _:
                raise ProtocolError("identify first")

    def _receive_send(self, frame: Send) -> None:
        if frame.type in ("iam", "refresh"):
            error = Refused("no_route", f"The type {frame.type!r} belongs to the router's handshake.", type=frame.type)
            self._refuse(error, frame.ref)
        elif self._handler is None:
            ref = b"" if frame.ref is None else b',"ref":%d' % frame.ref
            fields = b'{"type":%b,"message":%b%b}' % (_encode(frame.type), bytes(frame.message), ref)
            self._send(encode_event("whoareyou", fields))
        else:
            self._handler.event(frame.type, (frame.message,), frame.attachments, frame.ref)

    def _identify(self, frame: Identify) -> None:
        self._acks = self._acks or frame.acks
        if self._preparing:
            raise ProtocolError("identify once, and wait for the answer")
        if self._handler is not None:
            self._handler.event("iam", (msgspec.Raw(_encode(frame.actor)),), (), None)
            return
        if not frame.actor.rpartition("/")[0] or not is_address(frame.actor):
            self._send(encode_error(_not_an_actor()))
            return
        self.namespace = "/" + frame.actor.rpartition("/")[0]
        self.id = self.id or secrets.token_urlsafe(15)
        resume = frame.resume
        data = ConnectData(_auth_of(frame), resume.pid if resume else None, resume.offset if resume else None)
        try:
            waits = self._gateway.application.prepare(self, data)
        except RouterError as error:
            self._not_connected(error, frame.actor)
            return
        if waits is None:
            self._connect(data, frame.actor)
        else:
            self._preparing = True
            self._gateway.run(self._connect_later(waits, data, frame.actor))

    async def _connect_later(self, waits: Awaitable[None], data: ConnectData, actor: str) -> None:
        try:
            await waits
        except RouterError as error:
            self._not_connected(error, actor)
            return
        finally:
            self._preparing = False
        self._connect(data, actor)

    def _connect(self, data: ConnectData, actor: str) -> None:
        if self._websocket is None:
            return
        try:
            handler = self._gateway.application.connect(self, data)
        except RouterError as error:
            self._not_connected(error, actor)
            return
        now = self._gateway.now()
        self._handler = handler
        self._ping_due = now + self._gateway.settings.ping_interval
        self._gateway.deadlines.watch(self)
        handler.opened()

    def _not_connected(self, error: RouterError, actor: str) -> None:
        if error.message == "Invalid namespace":
            error = Refused(
                "unknown_address", f"There is no endpoint for the actor {actor[:128]!r}.", address=actor[:128]
            )
        self._send(encode_error(error))
        if error.code in ("unauthorized", "token_expired"):
            self.end(CloseCode.UNAUTHORIZED, error.code)
        elif error.code in ("forbidden", "revoked"):
            self.end(CloseCode.FORBIDDEN, error.code)

    # time: heartbeats, and who never identifies

    @property
    def deadline(self) -> float | None:
        if self._websocket is None:
            return None
        due = self._ping_due if self._ping_until is None else self._ping_until
        return due if due != math.inf else None

    def handle_timer(self, now: float) -> None:
        if self._handler is None:
            self._ping_due = math.inf  # from here on the closing handshake has its own time
            self.end(CloseCode.NOT_IDENTIFIED, "not identified in time")
        elif self._ping_until is not None and self._ping_until <= now:
            self._gateway.timed_out += 1
            self._ping_until = math.inf  # aborted, which it learns in a later turn of the loop
            if self._websocket is not None:
                self._websocket.abort()
        elif self._ping_due <= now:
            self.barrier()

    # gateways.base.Socket

    def emit(self, name: str, args: bytes) -> None:
        self._send(encode_event(name, args or b"{}"))

    def hello(self, ack: str, recovered: bool) -> None:
        settings = self._gateway.settings
        self._mode = ack
        hello = Hello(
            self.id,
            ack,
            heartbeat=settings.ping_interval,
            limit=settings.max_payload,
            pid=self.pid,
            recovered=recovered if self.pid is not None else None,
        )
        self._send(encode(hello))

    def deliver(
        self, type_: str, body: bytes, attachments: tuple[bytes, ...], ack_id: int | None, offset: str | None
    ) -> None:
        if self._websocket is None or self._handler is None:
            return
        number = self._handler.mark() if ack_id is None else ack_id
        self._n = number or self._n + 1
        frame = encode_deliver(self._n, type_, body, offset=offset, ack=ack_id is not None, attachments=attachments)
        self._websocket.send_text(frame)

    def acknowledge(self, ack_id: int, args: bytes) -> None:
        self._send(encode_answer(ack_id, args))

    def barrier(self) -> None:
        if self._ping_until is not None or self._websocket is None or self._handler is None:
            return
        now = self._gateway.now()
        settings = self._gateway.settings
        self._mark = self._handler.mark()
        self._ping_due = now + settings.ping_interval
        self._ping_until = now + settings.ping_timeout
        self._websocket.ping()
        self._gateway.deadlines.watch(self)

    @property
    def ping_interval(self) -> float:
        return self._gateway.settings.ping_interval

    def pause_reading(self) -> None:
        if self._websocket is not None:
            self._websocket.pause_reading()

    def resume_reading(self) -> None:
        if self._websocket is not None:
            self._websocket.resume_reading()

    def close(self, reason: CloseReason) -> None:
        if reason in _CLOSE:
            self.end(_CLOSE[reason], reason.text)
        elif self._websocket is not None:
            self._websocket.abort()

    def end(self, code: int, reason: str) -> None:
        """Closes with a code that tells the client whether to come back."""
        if self._websocket is not None:
            self._websocket.close(code, reason)

    def _refuse(self, error: RouterError, ref: int | None) -> None:
        if ref is None:
            self._send(encode_error(error))
        else:
            self._send(encode_answer(ref, _encode({"error": error.as_dict()})))

    def _send(self, frame: bytes) -> None:
        if self._websocket is not None:
            self._websocket.send_text(frame)


def _auth_of(frame: Identify) -> bytes:
    """What a Socket.IO client says when it connects."""
    names = ("token", "daemon", "status", "metadata", "lease")
    given = {name: value for name in names if (value := getattr(frame, name)) is not None}
    return _encode({"actor": frame.actor, **{name: value for name, value in given.items() if value != _NULL}})


def _not_an_actor() -> Refused:
    form = "ENDPOINT/NAME or ENDPOINT/SUB/NAME, each of 1 to 128 letters, digits and . _ ~ @ : + -"
    return Refused("bad_actor", f"An actor's id is {form}.")
