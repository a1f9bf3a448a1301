"""A scripted router: a real WebSocket server that speaks through the server's side of the codec."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from random import Random
from typing import TypeVar

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from smart_router.client import ClientSettings, World
from smart_router.protocols import plain

__all__ = ["FAST", "Conversation", "Pauses", "Peer", "body", "queued", "running"]

F = TypeVar("F", bound=plain.ClientFrame)

FAST = ClientSettings(ping_interval=5, ping_timeout=5, drain=2)


class Pauses:
    """A clock for back-off: remembers each wait, and does not wait."""

    def __init__(self, seed: int = 1) -> None:
        self.taken: list[float] = []
        self.world = World(sleep=self._sleep, random=Random(seed))

    async def _sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


class Conversation:
    """One connection, from the router's side: what the script reads and writes, in turn."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    async def frame(self, kind: type[F]) -> F:
        """The client's next frame, which is one of this kind."""
        data = await self.connection.recv(decode=False)
        frame = plain.decode_client(data)
        assert isinstance(frame, kind), frame
        return frame

    async def write(self, frame: plain.ServerFrame | bytes) -> None:
        await self.connection.send(frame if isinstance(frame, bytes) else plain.encode(frame), text=True)

    async def greet(self, **hello: object) -> plain.Identify:
        """Asks who it is, and welcomes it."""
        await self.write(plain.WhoAreYou())
        identify = await self.frame(plain.Identify)
        await self.write(msgspec.convert({"op": "hello", "sid": "s", "ack": "received", **hello}, plain.Hello))
        return identify

    async def deliver(self, n: int, id: str, type: str = "talk", **more: object) -> None:
        """A message by its id; `offset` and `ack` go beside it, the rest into it."""
        offset, ack = more.pop("offset", None), more.pop("ack", False)
        assert offset is None or isinstance(offset, str)
        await self.write(plain.encode_deliver(n, type, body(id, **more), offset=offset, ack=bool(ack)))

    async def accept(self, kind: type[plain.Send] = plain.Send) -> plain.Send:
        """Takes one `send` and answers it."""
        send = await self.frame(kind)
        assert send.ref is not None
        await self.write(plain.encode_answer(send.ref, queued(f"m{send.ref}")))
        return send

    async def goodbye(self) -> int | None:
        """Waits until the client has closed; its close code."""
        with contextlib.suppress(ConnectionClosed):
            data = await self.connection.recv(decode=False)
            raise AssertionError(f"no goodbye, but {data!r}")
        return self.connection.close_code

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def cut(self) -> None:
        """The network fails: no close frame."""
        self.connection.transport.abort()


class Peer:
    """Where a client finds the conversations, one after the other."""

    def __init__(self, server: Server, conversations: asyncio.Queue[Conversation]) -> None:
        self._server = server
        self._conversations = conversations

    @property
    def url(self) -> str:
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        return f"ws://{host}:{port}/ws"

    async def next(self) -> Conversation:
        """The client's next connection."""
        return await self._conversations.get()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Peer]:
    conversations: asyncio.Queue[Conversation] = asyncio.Queue()

    async def converse(connection: ServerConnection) -> None:
        conversation = Conversation(connection)
        conversations.put_nowait(conversation)
        await connection.wait_closed()

    protocols = [Subprotocol(plain.SUBPROTOCOL)]
    async with serve(converse, "127.0.0.1", 0, subprotocols=protocols) as server:
        yield Peer(server, conversations)


def body(id: str, **more: object) -> bytes:
    """A message as the router delivers it."""
    return msgspec.json.encode({"id": id, "from": "ui/456/u1", "at": 1, "ids": {}, **more})


def queued(id: str) -> bytes:
    return msgspec.json.encode({"id": id, "status": "queued"})
