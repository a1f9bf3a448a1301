"""One connection to one Redis server: commands out, answers in, in the same order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import hiredis

from smart_router.redis.base import Reply, Word

__all__ = ["BROKEN", "Link", "OnAnswer", "pack"]

OnAnswer = Callable[[Reply], None]
"""Gets the answer as hiredis reads it: an error is a hiredis.ReplyError; or BROKEN."""

BROKEN: Final = object()
"""Instead of an answer: the connection ended before it came."""

_NOTHING: Final = object()

pack: Final = cast("Callable[[tuple[Word, ...]], bytes]", hiredis.pack_command)
"""A command as Redis reads it; the type that hiredis publishes allows one word only."""


class Link(asyncio.Protocol):
    """`on_push(parts)`: pub/sub. `on_lost(reason)`: the connection has ended; every answer has been given before.

    What is sent in one turn of the event loop is written at once.
    """

    def __init__(self, on_push: Callable[[list[Reply]], None], on_lost: Callable[[str], None]) -> None:
        self._on_push = on_push
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: deque[OnAnswer] = deque()
        self._out: list[bytes] = []
        self._lost = False
        self.heard_at = self._loop.time()
        self.asked_at = 0.0
        self.commands = self.writes = self.bytes_written = self.bytes_read = 0

    @property
    def unanswered(self) -> int:
        return len(self._waiting)

    @property
    def address(self) -> str:
        """Of the other end, as the socket knows it."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

    def send(self, command: tuple[Word, ...], on_answer: OnAnswer) -> None:
        """BROKEN comes at once if the connection has ended."""
        if self._lost:
            on_answer(BROKEN)
            return
        if not self._waiting:
            self.asked_at = self._loop.time()
        self._waiting.append(on_answer)
        self.write(pack(command))

    def write(self, data: bytes) -> None:
        """Also of commands that have no answer of their own (SUBSCRIBE answers by a push)."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self.commands += 1

    def _flush(self) -> None:
        if self._transport is not None and self._out:
            data = b"".join(self._out)
            self._out.clear()
            self.writes += 1
            self.bytes_written += len(data)
            self._transport.write(data)

    def close(self) -> None:
        """What was sent before is written first."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by its class
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.asked_at = self._loop.time()
        self.bytes_read += len(data)
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _NOTHING:
                if type(answer) is hiredis.PushNotification:
                    self._on_push(answer)
                elif waiting:
                    waiting.popleft()(answer)
                elif isinstance(answer, hiredis.ReplyError):  # to a command that is answered by a push
                    self._on_push([b"error", answer])
        except hiredis.ProtocolError:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._out.clear()
        waiting, self._waiting = self._waiting, deque()
        for on_answer in waiting:
            on_answer(BROKEN)
        reason = getattr(error, "strerror", None) or (type(error).__name__ if error else "the server closed it")
        self._on_lost(str(reason))
