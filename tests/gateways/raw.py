"""A listener under test, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from smart_router.gateways.listener import Listener, ListenerSettings
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.websocket import WebSocket

__all__ = [
    "KEY",
    "Client",
    "Recorder",
    "Server",
    "application",
    "connect",
    "frame",
    "listening",
    "upgrade",
    "websocket",
]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    size = len(payload)
    first = bytes([(0x80 if fin else 0) | rsv | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head = first + bytes([bit | size])
    elif size < 65_536:
        head = first + bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head = first + bytes([bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[index & 3] for index, byte in enumerate(payload))


def upgrade(path: bytes = b"/ws", **headers: bytes) -> bytes:
    """A handshake; `headers` replace or add, with `_` for `-`; an empty value leaves one out."""
    fields = {
        b"host": b"test.example",
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-key": KEY,
        b"sec-websocket-version": b"13",
    } | {name.replace("_", "-").encode(): value for name, value in headers.items()}
    lines = [name + b": " + value for name, value in fields.items() if value]
    return b"GET " + path + b" HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"


class Recorder:
    """A WebSocketHandler that notes what happens and answers on demand: `echo`, `close`, `raise`, `abort`."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.socket: WebSocket | None = None
        self.done = asyncio.Event()
        self.came = asyncio.Event()
        self.last_words: list[bytes] = []

    def _note(self, *event: Any) -> None:
        assert not self.done.is_set(), f"{event} after closed"
        self.events.append(event)
        self.came.set()

    def opened(self, socket: WebSocket) -> None:
        self.socket = socket
        self._note("opened")

    def text(self, data: bytes) -> None:
        self._note("text", data)
        assert self.socket is not None
        if data.startswith(b"echo"):
            self.socket.send_text(data)
        elif data == b"close":
            self.socket.close(4000, "asked")
        elif data == b"abort":
            self.socket.abort()
        elif data == b"raise":
            raise RuntimeError("the gateway's fault")

    def binary(self, data: bytes) -> None:
        self._note("binary", data)
        assert self.socket is not None
        if data.startswith(b"echo"):
            self.socket.send_binary(data)

    def pong(self, data: bytes) -> None:
        self._note("pong", data)

    def before_flush(self) -> None:
        assert not self.done.is_set()
        if self.last_words and self.socket is not None:
            self.socket.ping(self.last_words.pop())

    def writable(self, ok: bool) -> None:
        self._note("writable", ok)

    def closed(self, code: int, reason: str) -> None:
        self._note("closed", code, reason)
        self.done.set()

    async def until(self, kind: str) -> tuple[Any, ...]:
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if event[0] == kind:
                        return event
                self.came.clear()
                await self.came.wait()


async def application(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answers with method, path and the body's size."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = f"{scope['method']} {scope['path']} {size}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server:
    """A started listener with the recorders of its WebSockets and the lines of its log."""

    def __init__(self, listener: Listener, recorders: list[Recorder], lines: list[dict[str, Any]]) -> None:
        self.listener = listener
        self.recorders = recorders
        self.lines = lines
        self.address = listener.addresses[0]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Gives the loop its turns until it holds; the test's own time limit ends the wait."""
        async with asyncio.timeout(15):
            while not holds():  # noqa: ASYNC110 (a condition on counters: there is no event to wait for)
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def listening(
    settings: ListenerSettings | None = None,
    app: Callable[..., Awaitable[None]] = application,
    decide: Callable[[HttpRequest], Recorder | Refusal] | None = None,
) -> AsyncIterator[Server]:
    recorders: list[Recorder] = []
    lines: list[dict[str, Any]] = []

    def record(_: Any, __: str, line: Any) -> Any:
        lines.append(dict(line))
        raise structlog.DropEvent

    def default(_: HttpRequest) -> Recorder:
        recorders.append(Recorder())
        return recorders[-1]

    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[record])
    listener = Listener(settings or ListenerSettings(port=0), app, decide or default, log=log)
    await listener.start()
    try:
        yield Server(listener, recorders, lines)
    finally:
        await listener.close()


class Client:
    """One connection; every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_cut(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(2):
                await asyncio.sleep(0)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)

    async def response(self) -> tuple[int, bytes, bytes]:
        """(status, head in lower case, body)."""
        head = (await self.head()).lower()
        size = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await asyncio.wait_for(self.reader.readexactly(int(size or b"0")), 10)
        return int(head[9:12]), head, body

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, payload) of one unfragmented frame."""
        head = await asyncio.wait_for(self.reader.readexactly(2), 10)
        assert head[0] & 0xF0 == 0x80
        assert head[1] & 0x80 == 0
        size = head[1]
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        return head[0] & 15, await asyncio.wait_for(self.reader.readexactly(size), 10)

    async def rest(self) -> bytes:
        """Everything until the server ends its direction."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        except ConnectionError:
            return b"reset"

    async def close_code(self) -> int:
        """The code of the close frame that comes next; 1005 for one without."""
        opcode, payload = await self.frame()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2], "big") if payload else 1005


@contextlib.asynccontextmanager
async def connect(server: Server, **options: Any) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*server.address, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def websocket(server: Server, tail: bytes = b"", **headers: bytes) -> AsyncIterator[Client]:
    async with connect(server) as client:
        client.send(upgrade(**headers) + tail)
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"Sec-WebSocket-Accept: " + ACCEPT in head
        yield client
