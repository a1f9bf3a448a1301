"""A Socket.IO connection of our own over a raw WebSocket: small enough for thousands of messages a second.

Engine.IO 4: `0` open, `2` ping, `3` pong, `4` message. Socket.IO 5 inside: `0` connect, `1` disconnect, `2` event,
`3` acknowledgement, `4` refusal; then the namespace, a comma, an acknowledgement number, and the arguments as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

__all__ = ["Gone", "Link", "Packet"]

_PACKET = re.compile(r"4(?P<kind>[0-4])(?:(?P<namespace>/[^,]*),)?(?P<number>\d+)?(?P<data>.*)", re.DOTALL)
_OPEN_TIMEOUT = 20.0


class Gone(Exception):
    """The connection is over, or never was."""


class Packet(msgspec.Struct):
    """A Socket.IO packet: `kind` as on the wire, `data` decoded."""

    kind: str
    number: int | None
    data: Any


class Link:
    """One connection to one namespace. Pings are answered as they are read, so after all that came before them."""

    def __init__(self, connection: ClientConnection, namespace: str, silence: float) -> None:
        self._socket = connection
        self._prefix = namespace + ","
        self._silence = silence
        self.pid: str | None = None

    @classmethod
    async def open(cls, port: int, namespace: str, auth: dict[str, Any], patience: float = _OPEN_TIMEOUT) -> Link:
        """Connected to the namespace; Gone when it can't be, or nothing comes for `patience` seconds."""
        address = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        try:
            connection = await connect(
                address, compression=None, ping_interval=None, open_timeout=patience, close_timeout=0, proxy=None
            )
        except (OSError, TimeoutError, WebSocketException, AssertionError) as error:
            raise Gone(str(error)) from error  # AssertionError: websockets, when the answer was a refusal
        try:
            return await cls._join(connection, namespace, auth, patience)
        except BaseException:
            connection.transport.abort()
            raise

    @classmethod
    async def _join(cls, connection: ClientConnection, namespace: str, auth: dict[str, Any], patience: float) -> Link:
        link = cls(connection, namespace, patience)
        handshake = msgspec.json.decode((await link._receive())[1:])
        await link.write("40" + link._prefix + msgspec.json.encode(auth).decode())
        link._silence = (handshake["pingInterval"] + handshake["pingTimeout"]) / 1000
        async for packet in link.packets():
            if packet.kind == "0":
                link.pid = packet.data.get("pid")
                return link
            raise Gone(f"refused: {packet.data}")
        raise Gone("ended")

    async def write(self, frame: str) -> None:
        try:
            await self._socket.send(frame)
        except WebSocketException as error:
            raise Gone(str(error)) from error

    async def emit(self, data: bytes, number: int | None = None) -> None:
        """An event: `data` is its JSON array; with `number` an acknowledgement is asked for."""
        await self.write(f"42{self._prefix}{'' if number is None else number}{data.decode()}")

    async def acknowledge(self, number: int, data: bytes) -> None:
        await self.write(f"43{self._prefix}{number}{data.decode()}")

    async def packets(self) -> AsyncIterator[Packet]:
        """What arrives, until the connection ends (Gone) or the server says that it does."""
        while True:
            frame = await self._receive()
            if frame == "2":
                await self.write("3")
            elif frame == "1":
                raise Gone("closed by the server")
            elif match := _PACKET.fullmatch(frame):
                number, data = match["number"], match["data"]
                yield Packet(match["kind"], int(number) if number else None, msgspec.json.decode(data or "null"))

    def stall(self) -> None:
        """Reads no byte any more, and lets the kernel take next to none."""
        self._socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.transport.pause_reading()

    def cut(self) -> None:
        """Ends it at once, without a word."""
        with contextlib.suppress(OSError):
            self._socket.transport.abort()

    async def _receive(self) -> str:
        """The next frame; Gone also after the silence that the handshake allows."""
        try:
            async with asyncio.timeout(self._silence):
                frame = await self._socket.recv()
        except (TimeoutError, WebSocketException) as error:
            raise Gone(str(error) or "silence") from error
        assert isinstance(frame, str), "nothing here sends binary"
        return frame
