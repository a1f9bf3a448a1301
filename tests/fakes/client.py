"""A scripted client, and the socket under it: gateways.base.Socket without a wire."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from smart_router.gateways.base import CloseReason, SocketHandler
from smart_router.gateways.request import HttpRequest
from smart_router.protocols.socketio import ConnectData
from tests.fakes.clock import until

if TYPE_CHECKING:
    from tests.fakes.bench import Bench

__all__ = ["Client", "Delivered"]

Json = Any


class Delivered(NamedTuple):
    """One delivery, as it was written."""

    type: str
    message: dict[str, Any]
    body: bytes
    attachments: tuple[bytes, ...]
    ack_id: int | None
    offset: str | None

    @property
    def n(self) -> Any:
        """The payload, by which the tests tell messages apart."""
        return self.message["payload"]


class Client:
    """Records all that is written to it. It answers pings when told to (`pong`), and confirms nothing by itself."""

    def __init__(self, bench: Bench, namespace: str, sid: str, authorization: bytes | None = None) -> None:
        self.bench = bench
        self.id = sid
        self.pid: str | None = None
        self.namespace = namespace
        self.request = HttpRequest("/socket.io/")
        self.authorization = authorization
        self.log: list[tuple[str, Json]] = []
        self.deliveries: list[Delivered] = []
        self.answers: dict[int, Json] = {}
        self.hellos: list[tuple[str, bool]] = []
        self.close_reason: CloseReason | None = None
        self.reading = True
        self.ping_interval = 25.0
        self.pinged: int | None = None
        self.handler: SocketHandler
        self._acks = 0
        self._gone = False

    def prepare(self, auth: Json, pid: str | None, offset: str | None) -> Awaitable[None] | None:
        """What the gateway awaits before the client is connected."""
        return self.bench.actors.prepare(self, ConnectData(msgspec.json.encode(auth), pid, offset))

    def open(self, auth: Json = None, pid: str | None = None, offset: str | None = None) -> None:
        """CONNECT; raises Refused where the client would get a CONNECT_ERROR."""
        data = ConnectData(msgspec.json.encode(auth if auth is not None else {}), pid, offset)
        self.handler = self.bench.actors.connect(self, data)
        self.handler.opened()

    # the client's side

    def send(self, type_: str, *args: Json, attachments: tuple[bytes, ...] = ()) -> int:
        """An event that asks for an acknowledgement; its number in `answers`. Arguments: bytes go as they are."""
        self._acks += 1
        self._event(type_, args, attachments, self._acks)
        return self._acks

    def tell(self, type_: str, *args: Json, attachments: tuple[bytes, ...] = ()) -> None:
        """An event that asks for nothing."""
        self._event(type_, args, attachments, None)

    def _event(self, type_: str, args: Sequence[Json], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        raw = [msgspec.Raw(arg if isinstance(arg, bytes) else msgspec.json.encode(arg)) for arg in args]
        self.handler.event(type_, raw, attachments, ack_id)

    async def asked(self, type_: str, *args: Json) -> Json:
        """Sends and waits for the answer."""
        number = self.send(type_, *args)
        await until(lambda: number in self.answers)
        return self.answers[number]

    def flush(self) -> None:
        """What is written so far leaves, without a ping."""
        self.handler.mark()

    def ping(self) -> None:
        """What is written so far leaves, with a ping behind it, unless one is on its way."""
        if self.pinged is None:
            self.pinged = self.handler.mark()

    def pong(self) -> None:
        """Answers the ping that is on its way, or one sent now."""
        self.ping()
        mark, self.pinged = self.pinged, None
        assert mark is not None
        self.handler.heartbeat()
        self.handler.confirm(mark)

    def answer(self, ack_id: int, *args: Json) -> None:
        """The application's answer to a delivery."""
        self.handler.acknowledgement(ack_id, [msgspec.Raw(msgspec.json.encode(arg)) for arg in args], ())

    def nack(self, ack_id: int, reason: str = "no") -> None:
        self.answer(ack_id, {"nack": reason})

    def cut(self, *, by_client: bool = False) -> None:
        """The connection is gone; `by_client`: after a DISCONNECT."""
        if not self._gone:
            self._gone = True
            self.handler.closed(by_client)

    # what it got

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.log]

    @property
    def numbers(self) -> list[Any]:
        """The payloads delivered, in order."""
        return [delivered.n for delivered in self.deliveries]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [args for name, args in self.log if name == "error"]

    @property
    def codes(self) -> list[str]:
        return [error["code"] for error in self.errors]

    # gateways.base.Socket

    def emit(self, name: str, args: bytes) -> None:
        if not self._gone:
            self.log.append((name, msgspec.json.decode(args) if args else None))

    def deliver(
        self, type_: str, body: bytes, attachments: tuple[bytes, ...], ack_id: int | None, offset: str | None
    ) -> None:
        if self._gone:
            return
        message = msgspec.json.decode(body)
        self.bench.written.append(message)
        self.log.append((type_, message))
        self.deliveries.append(Delivered(type_, message, body, attachments, ack_id, offset))

    def hello(self, ack: str, recovered: bool) -> None:
        if not self._gone:
            self.log.append(("hello", {}))
            self.hellos.append((ack, recovered))

    def acknowledge(self, ack_id: int, args: bytes) -> None:
        assert ack_id not in self.answers, "answered twice"
        self.answers[ack_id] = msgspec.json.decode(args)

    def barrier(self) -> None:
        self.ping()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self, reason: CloseReason) -> None:
        """A real gateway tells the handler at once or later; here at once."""
        if not self._gone:
            self.close_reason = reason
            self.cut(by_client=not reason.comes_back)
