"""Many Socket.IO clients in one loop, each as small as can be: joins, answers pings, and can be cut without a word."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Final, cast

from tests.gateways.raw import frame, upgrade
from tests.security.ports import SOCKETIO

__all__ = ["Crowd", "Member"]

_UPGRADE: Final = upgrade(SOCKETIO.encode(), host=b"127.0.0.1")
_PONG: Final = frame(1, b"3")
_RESET: Final = struct.pack("ii", 1, 0)
_RETRY: Final = 0.5  # s; a client's own back-off after 503


class Crowd:
    """`here`: how many have joined now. `lost`: connections that ended although nobody cut them. `busy`: 503 seen."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.count = count
        self.here = 0
        self.lost = 0
        self.busy = 0
        self.pongs = 0
        self.all_here = asyncio.Event()
        self.members = [Member(self, number) for number in range(count)]

    async def gather(self, within: float) -> None:
        """All of them at once; TimeoutError when they have not all joined in time."""
        self.all_here.clear()
        async with asyncio.timeout(within):
            await asyncio.gather(*(member.connect() for member in self.members))
            await self.all_here.wait()

    def cut(self) -> None:
        """Everybody's connection is reset."""
        for member in self.members:
            member.cut()

    def arrived(self) -> None:
        self.here += 1
        if self.here == self.count:
            self.all_here.set()


class Member(asyncio.Protocol):
    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        self._actor = f"ui/456/member-{number}"
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._open = self._joined = False

    async def connect(self) -> None:
        self._data, self._open, self._joined = b"", False, False
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._crowd.port)

    def cut(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._crowd.here -= self._joined
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._transport.write(_UPGRADE)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._open:
            self._read_head()
        while self._open and len(self._data) >= 2 and len(self._data) >= 2 + self._data[1]:
            size = self._data[1]
            assert size < 126, "the server sends this client short frames only"
            payload, self._data = self._data[2 : 2 + size], self._data[2 + size :]
            self._frame(payload)

    def _read_head(self) -> None:
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if separator and head.startswith(b"HTTP/1.1 101"):
            self._open, self._data = True, rest

    def _frame(self, payload: bytes) -> None:
        assert self._transport is not None
        if payload[:1] == b"0":
            auth = json.dumps({"actor": self._actor})
            self._transport.write(frame(1, f"40/ui/456,{auth}".encode()))
        elif payload == b"2":
            self._crowd.pongs += 1
            self._transport.write(_PONG)
        elif b'["hello"' in payload:
            self._joined = True
            self._crowd.arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return  # it was cut
        self._transport = None
        if self._data.startswith(b"HTTP/1.1 503"):
            self._crowd.busy += 1
            asyncio.get_running_loop().call_later(_RETRY, self._again)
        else:
            self._crowd.lost += 1
            self._crowd.here -= self._joined

    def _again(self) -> None:
        self._task = asyncio.ensure_future(self.connect())
