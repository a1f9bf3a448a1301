"""What was received and not taken, what was taken and not confirmed to the server, and what is a repeat.

deliver ──► queue ──► take() ──► the application ──► ack() / nack()
                        │                               │
                        └──► due(): `ack` {upto}  ◄─────┘  `ack` {n}, `nack` {n, reason}
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from smart_router.client.dedup import Seen
from smart_router.client.errors import Closed
from smart_router.client.message import Message
from smart_router.client.settings import ClientSettings
from smart_router.protocols.plain import Ack, Deliver, Hello, Nack, encode

__all__ = ["Inbox", "InboxStatistics"]


class InboxStatistics(NamedTuple):
    waiting: int
    taken: int
    repeats: int


class Inbox:
    """Confirms what the application has taken; what it has not is the server's, and comes again after a cut.

    Messages of a connection that was cut may be taken until the next stands; their repeats are confirmed and dropped.
    """

    def __init__(self, settings: ClientSettings, wake: asyncio.Event) -> None:
        self.offset: str | None = None
        """Of the last message taken that had one: where a resumed session goes on."""
        self.reply: Callable[[str, msgspec.Raw], Awaitable[bytes]]
        """Takes a reply to the router; the outbox's."""
        self._limit = settings.inbox_messages
        self._seen = Seen(settings.dedup_keys)
        self._wake = wake
        self._queue: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._epoch = 0
        self._upto = 0
        self._answers: deque[Ack | Nack] = deque()
        self._closed: Closed | None = None
        self._taken = 0
        self._repeats = 0

    def connected(self, hello: Hello) -> None:
        """A new connection: numbers of the old one mean nothing on it, and what was not taken comes again."""
        self._epoch += 1
        self._upto = 0
        self._answers.clear()
        if not hello.recovered:
            self.offset = None
        if hello.ack != "sent":
            self._queue.clear()
            self._room.set()

    async def room(self) -> None:
        """Returns when one more delivery may be put in."""
        await self._room.wait()

    def put(self, deliver: Deliver) -> None:
        self._queue.append(Message(deliver, self._settle, self._epoch, self._reply))
        if len(self._queue) >= self._limit:
            self._room.clear()
        self._changed.set()

    async def take(self) -> Message:
        """The next message that the application has not had. Closed when there is none and none will come."""
        while True:
            message = self._next()
            if message is not None:
                return message
            if self._closed is not None:
                raise self._closed.again()
            self._changed.clear()
            await self._changed.wait()

    def _next(self) -> Message | None:
        while self._queue:
            message = self._queue.popleft()
            self._room.set()
            repeat = message.key in self._seen
            self._confirm(message, repeat)
            if not repeat:
                self._taken += 1
                return message
            self._repeats += 1
        return None

    def _confirm(self, message: Message, repeat: bool) -> None:
        current = message.epoch == self._epoch
        if current and message.offset is not None:
            self.offset = message.offset
        if not message.needs_ack:
            self._seen.add(message.key)
            if current:
                self._upto = message.n
                self._wake.set()
        elif repeat:
            message.ack()

    def _settle(self, message: Message, reason: str | None) -> None:
        """The application's answer. On another connection than the message's it waits for the repeat."""
        if reason is None:
            self._seen.add(message.key)
        else:
            self._seen.discard(message.key)
        if message.epoch == self._epoch:
            self._answers.append(Ack(n=message.n) if reason is None else Nack(message.n, reason))
            self._wake.set()

    async def _reply(self, message: Message, payload: msgspec.Raw) -> None:
        await self.reply(message.id, payload)

    def due(self) -> bytes | None:
        """The next confirmation to write: one for all taken since the last, or one answer of the application."""
        if self._upto:
            upto, self._upto = self._upto, 0
            return encode(Ack(upto=upto))
        return encode(self._answers.popleft()) if self._answers else None

    def close(self, closed: Closed) -> None:
        """Nothing more comes; what is here may still be taken."""
        self._closed = self._closed or closed
        self._changed.set()
        self._room.set()

    def statistics(self) -> InboxStatistics:
        return InboxStatistics(len(self._queue), self._taken, self._repeats)
