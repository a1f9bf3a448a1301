"""One connection: identify, then read and write until it is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from smart_router.client.errors import Cut, refused
from smart_router.client.inbox import Inbox
from smart_router.client.outbox import Outbox
from smart_router.client.transport import Transport
from smart_router.errors import ProtocolError, Refused
from smart_router.protocols.plain import (
    Answer,
    Deliver,
    Error,
    Hello,
    Identify,
    ServerFrame,
    WhoAreYou,
    decode_server,
    encode,
)
from smart_router.protocols.plain_close import CloseCode

__all__ = ["Link"]


class Link:
    """`wake` is set by inbox and outbox when there is something to write; `on_error` hears what belongs to no send."""

    def __init__(
        self,
        transport: Transport,
        inbox: Inbox,
        outbox: Outbox,
        wake: asyncio.Event,
        on_error: Callable[[Refused], None],
    ) -> None:
        self._transport = transport
        self._inbox = inbox
        self._outbox = outbox
        self._wake = wake
        self._on_error = on_error
        self._limit: int | None = None
        self._greeted = False

    async def greet(self, identify: Identify) -> Hello:
        """Identified. Refused: the server will not have this actor; Cut; ProtocolError."""
        await self._transport.send(encode(identify))
        while True:
            frame = await self._receive()
            if isinstance(frame, Hello):
                self._greeted = True
                self._limit = frame.limit
                self._inbox.connected(frame)
                self._outbox.rewind()
                return frame
            if isinstance(frame, Error):
                raise refused(frame)
            if isinstance(frame, (Answer, Deliver)):
                raise ProtocolError("the server did not wait for hello")

    async def run(self) -> None:
        """Both ways until the connection ends, which is a Cut."""
        self._wake.set()
        writer = asyncio.create_task(self._write())
        try:
            while True:
                await self._take(await self._receive())
        finally:
            writer.cancel()
            await asyncio.wait({writer})  # not `await writer`: a cancellation of ours is none of the writer's
            if not writer.cancelled():
                writer.result()

    async def flush(self) -> None:
        """Writes the confirmations that are due: the last thing before a goodbye."""
        with contextlib.suppress(Cut):
            while self._greeted and (frame := self._inbox.due()) is not None:
                await self._transport.send(frame)

    async def _receive(self) -> ServerFrame | None:
        return decode_server(await self._transport.receive())

    async def _take(self, frame: ServerFrame | None) -> None:
        if isinstance(frame, Deliver):
            await self._inbox.room()
            self._inbox.put(frame)
        elif isinstance(frame, Answer):
            self._outbox.answer(frame.ref, bytes(frame.answer))
        elif isinstance(frame, Error):
            self._on_error(refused(frame))
        elif isinstance(frame, WhoAreYou):
            raise Cut(CloseCode.NOT_IDENTIFIED, "the server has forgotten us")

    async def _write(self) -> None:
        """A connection that cannot be written to ends in the reader too, and is dealt with there."""
        with contextlib.suppress(Cut):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (frame := self._inbox.due() or self._outbox.next(self._limit)) is not None:
                    await self._transport.send(frame)
