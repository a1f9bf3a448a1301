"""A TCP proxy that does to connections what networks do: cut, reset, go silent, stand still, delay, trickle.

`Proxy` listens on a free port of 127.0.0.1 and connects each client to `target`. Faults are asked for by connection, or
for a part of all; a network that is cut, in one direction or both, and heals, by `hold` and `heal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
from collections.abc import Callable

__all__ = ["Connection", "Proxy", "Silence", "Tap"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Silence(enum.Flag):
    """Directions in which bytes are read and thrown away, with no sign to either end."""

    NONE = 0
    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()
    BOTH = TO_SERVER | TO_CLIENT


Tap = Callable[[Silence, bytes], int | None]
"""Sees what comes on one connection, by direction. A number: only so many bytes of it pass, and the connection ends."""


class Connection:
    """One client's way to the server. Once silent it never speaks again: a hole in the bytes would be a forgery."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)
        self.silence = Silence.NONE
        self.delay = 0.0
        self.trickle = False
        self.tap: Tap | None = None
        self._flowing = {Silence.TO_SERVER: asyncio.Event(), Silence.TO_CLIENT: asyncio.Event()}
        self.heal()

    def hold(self, directions: Silence = Silence.BOTH) -> None:
        """Stops carrying, ends of connections too, and loses nothing: as a network that is cut, until it heals."""
        for direction in directions:
            self._flowing[direction].clear()

    def heal(self) -> None:
        """What was held goes on its way."""
        for flowing in self._flowing.values():
            flowing.set()

    def cut(self) -> None:
        """Ends it with a FIN on both sides."""
        self.heal()
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Ends it with a RST on both sides; what the kernel still holds is gone."""
        self.heal()
        for writer in self._writers:
            if not writer.transport.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Silence) -> None:
        """Carries one direction until either end closes; then so does the other, unless it is silent."""
        with contextlib.suppress(ConnectionError):
            while data := await self._read(reader, direction):
                end = self.tap(direction, data) if self.tap else None
                if direction not in self.silence:
                    await self._carry(writer, data[:end])
                if end is not None:
                    self.cut()
        await self._flowing[direction].wait()
        if not self.silence:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, direction: Silence) -> bytes:
        data = await reader.read(1 << 16)
        if data and self.delay:
            await asyncio.sleep(self.delay)
        await self._flowing[direction].wait()
        return data

    async def _carry(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        pieces = (data[i : i + 1] for i in range(len(data))) if self.trickle else (data,)
        for piece in pieces:
            if writer.transport.is_closing():
                raise ConnectionAbortedError
            writer.write(piece)
            await writer.drain()
            if self.trickle:
                await asyncio.sleep(0)


class Proxy:
    """Use as an async context manager; `port` is where clients connect. `target` may change while it runs.

    `prepare` is called with each new connection before anything passes: to slow it down, or to tap it.
    """

    def __init__(self, target: tuple[str, int], prepare: Callable[[Connection], None] | None = None) -> None:
        self.target = target
        self._prepare = prepare
        self._held = Silence.NONE
        self.port = 0
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=10_000)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def some(self, part: float, rng: random.Random) -> list[Connection]:
        """A part (0 to 1) of the connections, at least one if there is any."""
        everyone = list(self.connections)
        return rng.sample(everyone, min(len(everyone), max(1, round(len(everyone) * part))))

    def hold(self, directions: Silence = Silence.BOTH) -> None:
        """Nothing passes any more, on connections that are made meanwhile neither; nobody is told."""
        self._held |= directions
        for connection in self.connections:
            connection.hold(directions)

    def heal(self) -> None:
        """What was held goes on its way, in order."""
        self._held = Silence.NONE
        for connection in self.connections:
            connection.heal()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            upstream = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, upstream[1])
        connection.hold(self._held)
        if self._prepare:
            self._prepare(connection)
        await self._run(connection, (reader, writer), upstream)

    async def _run(
        self,
        connection: Connection,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.connections.add(connection)
        try:
            await asyncio.gather(
                connection.pump(client[0], server[1], Silence.TO_SERVER),
                connection.pump(server[0], client[1], Silence.TO_CLIENT),
            )
        finally:
            self.connections.discard(connection)
            connection.cut()
