"""A connection and a channel that write down what they are told, and a broker that says what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.parse import urlsplit

from pamqp import commands

from smart_router.amqp import AmqpConnection, AmqpUrl, Channel, Properties, encode_properties
from smart_router.errors import StorageError
from tests.fakes.clock import until
from tests.protocols.amqp_frames import marshal
from tests.protocols.test_amqp_connection import OPEN_OK, START, TUNE
from tests.services import unique

__all__ = ["PROPERTIES", "Line", "User", "place", "scripted_broker", "using", "with_place"]

PROPERTIES = encode_properties(Properties(delivery_mode=2, message_id="m-1"))


class Line:
    """A channel, and what it was told."""

    def __init__(self, connection: AmqpConnection) -> None:
        self.closed: list[StorageError] = []
        self.confirms: list[tuple[int, bool, bool]] = []
        self.returns: list[tuple[Any, ...]] = []
        self.cancels: list[str] = []
        self.deliveries: list[tuple[int, bool, bytes]] = []
        self.channel: Channel = connection.channel(
            on_closed=self.closed.append,
            on_confirm=lambda *confirm: self.confirms.append(confirm),
            on_return=lambda *returned: self.returns.append(returned),
            on_cancel=self.cancels.append,
        )

    def deliver(self, tag: int, redelivered: bool, exchange: bytes, key: bytes, properties: bytes, body: bytes) -> None:
        self.deliveries.append((tag, redelivered, body))

    def send(self, queue: str, *bodies: bytes) -> int:
        """To the queue, over the default exchange; the last number."""
        return [self.channel.publish(b"", queue.encode(), PROPERTIES, body) for body in bodies][-1]

    async def confirmed(self, number: int) -> None:
        await until(lambda: any(told >= number for told, _, _ in self.confirms))

    async def has(self, count: int) -> list[bytes]:
        await until(lambda: len(self.deliveries) >= count)
        return [body for _, _, body in self.deliveries]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.deliveries]


class User:
    """A connection, and what it was told. `prepare` is done whenever it is up."""

    def __init__(self, url: str, prepare: Callable[["User"], Awaitable[None]] | None = None) -> None:
        self.ups = 0
        self.downs: list[str] = []
        self.writable = 0
        self._prepare = prepare
        self.connection = AmqpConnection(
            AmqpUrl(url), "test", Random(1), on_up=self._up, on_down=self.downs.append, on_writable=self._writable
        )

    async def _up(self) -> None:
        if self._prepare is not None:
            await self._prepare(self)
        self.ups += 1

    def _writable(self) -> None:
        self.writable += 1

    async def line(self) -> Line:
        """An open channel."""
        line = Line(self.connection)
        await line.channel.open()
        return line

    async def queue(self, line: Line, **options: Any) -> str:
        """A queue of this connection's own."""
        return (await line.channel.declare_queue(unique("test"), exclusive=True, **options)).name


@asynccontextmanager
async def using(url: str, prepare: Callable[[User], Awaitable[None]] | None = None) -> AsyncIterator[User]:
    """An open connection."""
    user = User(url, prepare)
    await user.connection.open()
    try:
        yield user
    finally:
        await user.connection.close()


def place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or 5672


def with_place(url: str, port: int, options: str = "", host: str = "127.0.0.1") -> str:
    """The same at another port, with options."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return f"{parts.scheme}://{login}@{host}:{port}{parts.path}{'?' if options else ''}{options}"


@asynccontextmanager
async def scripted_broker(*says: bytes, start: bytes = START) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Lets everybody in, then says that; its URL and its connections. What it is told it ignores, but for goodbyes."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readexactly(8)
        for piece in (start, TUNE, OPEN_OK, *says):
            writer.write(piece)
        while data := await reader.read(1 << 16):
            if b"\x00\x0a\x00\x32" in data:
                writer.write(marshal(commands.Connection.CloseOk(), 0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"amqp://guest:guest@127.0.0.1:{port}/", writers
    finally:
        server.close()
        for writer in writers:
            writer.close()
