"""A TCP proxy that does to connections what networks do: cut, reset, go silent, delay, trickle.

`Proxy` listens on a free port of 127.0.0.1 and connects each client to `target`. Faults are asked for by connection, or
for a part of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct

__all__ = ["Connection", "Proxy", "Silence"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Silence(enum.Flag):
    """Directions in which bytes are read and thrown away, with no sign to either end."""

    NONE = 0
    TO_SERVER = enum.auto()
    TO_CLIENT = enum.auto()
    BOTH = TO_SERVER | TO_CLIENT


class Connection:
    """One client's way to the server. Once silent it never speaks again: a hole in the bytes would be a forgery."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)
        self.silence = Silence.NONE
        self.delay = 0.0
        self.trickle = False

    def cut(self) -> None:
        """Ends it with a FIN on both sides."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Ends it with a RST on both sides; what the kernel still holds is gone."""
        for writer in self._writers:
            if not writer.transport.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Silence) -> None:
        """Carries one direction until either end closes; then so does the other, unless it is silent."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if direction not in self.silence:
                    await self._carry(writer, data)
        if not self.silence:
            writer.close()

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
    """Use as an async context manager; `port` is where clients connect. `target` may change while it runs."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
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
        await self._run(Connection(writer, upstream[1]), (reader, writer), upstream)

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
