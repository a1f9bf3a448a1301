"""Clients of the gateways with nothing of ours in them: one HTTP request, one WebSocket, over a plain socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import NamedTuple

__all__ = ["Closed", "RawWebSocket", "Response", "open_websocket", "poll_session", "request"]

Headers = tuple[tuple[str, str], ...]


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Closed(Exception):
    """The peer has closed: `code` of its close frame, None without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


def head(method: str, target: str, headers: Headers = (), length: int | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


async def request(port: int, method: str, target: str, body: bytes | None = None, headers: Headers = ()) -> Response:
    """One request on a connection of its own, and its whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head(method, target, headers, len(body) if body is not None else None) + (body or b""))
        return await _response(reader)
    finally:
        writer.close()


async def _response(reader: asyncio.StreamReader) -> Response:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    return Response(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def poll_session(port: int, path: str, headers: Headers = ()) -> tuple[str, str]:
    """A polling handshake: the sid, and the target of further requests."""
    answer = await request(port, "GET", f"{path}?EIO=4&transport=polling", headers=headers)
    assert answer.status == 200, answer
    sid = answer.body.decode().split('"sid":"')[1].split('"')[0]
    return sid, f"{path}?EIO=4&transport=polling&sid={sid}"


class RawWebSocket:
    """The client's side of a WebSocket: what the server sends is given as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            self.frame(0x1, data.encode())
        else:
            self.frame(0x2, data)

    def frame(self, opcode: int, payload: bytes, first: int = 0x80) -> None:
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            length = bytes((0x80 | size,))
        elif size < 65536:
            length = b"\xfe" + size.to_bytes(2, "big")
        else:
            length = b"\xff" + size.to_bytes(8, "big")
        masked = bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload)) if size < 70_000 else payload
        self.writer.write(bytes((first | opcode,)) + length + (mask if size < 70_000 else bytes(4)) + masked)

    async def receive(self) -> str | bytes:
        """The next message; Closed at the end. A close frame is answered."""
        while True:
            opcode, payload = await self._frame()
            if opcode == 0x1:
                return payload.decode()
            if opcode == 0x2:
                return payload
            if opcode == 0x8:
                self.frame(0x8, payload)
                self.writer.close()
                raise Closed(int.from_bytes(payload[:2], "big") if payload else None)

    async def pinged(self) -> None:
        """A ping comes, and is answered."""
        opcode, payload = await self._frame()
        assert opcode == 0x9
        self.frame(0xA, payload)

    async def closed(self) -> int | None:
        """The code with which the server closes; whatever else it sends before is an error."""
        try:
            message = await self.receive()
        except Closed as closed:
            return closed.code
        raise AssertionError(f"not closed, but got {message!r}")

    async def _frame(self) -> tuple[int, bytes]:
        try:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0xF, await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(None) from None


@contextlib.asynccontextmanager
async def open_websocket(port: int, target: str, headers: Headers = ()) -> AsyncIterator[RawWebSocket]:
    """A WebSocket; Closed if the server refuses the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    upgrade = (
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    )
    lines = head("GET", target, (*upgrade, *headers)).replace(b"connection: close\r\n", b"")
    try:
        writer.write(lines)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101"):
            raise Closed(None)
        yield RawWebSocket(reader, writer)
    finally:
        writer.close()
