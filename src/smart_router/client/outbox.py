"""What waits to be sent, and what was sent and has no answer yet: after a cut both go again, in their first order.

put ──► unsent ──► next() ──► unanswered ──► answer()
          ▲                        │
          └─────── rewind() ◄──────┘   on each new connection
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

import msgspec

from smart_router.client.errors import Closed, read_error, refused
from smart_router.client.settings import ClientSettings
from smart_router.errors import ProtocolError, Refused
from smart_router.protocols.plain import Read, Refresh, Reply, Send, encode

__all__ = ["Outbox", "OutboxStatistics"]


class OutboxStatistics(NamedTuple):
    unsent: int
    unanswered: int
    bytes: int


class _Waiting:
    __slots__ = ("frame", "future", "ref")

    def __init__(self, frame: bytes, ref: int | None, future: asyncio.Future[bytes]) -> None:
        self.frame = frame
        self.ref = ref
        self.future = future


class Outbox:
    """Bounded; `wake` is set whenever there is something to write."""

    def __init__(self, settings: ClientSettings, wake: asyncio.Event) -> None:
        self.idle = asyncio.Event()
        """Set while nothing is unsent or unanswered."""
        self.idle.set()
        self._settings = settings
        self._wake = wake
        self._unsent: deque[_Waiting] = deque()
        self._unanswered: dict[int, _Waiting] = {}
        self._bytes = 0
        self._ref = 0

    def send(self, type: str, message: msgspec.Raw, attachments: tuple[bytes, ...]) -> asyncio.Future[bytes]:
        """The router's answer, as JSON. Refused `busy` at the limits. Cancelling the future gives the message up."""
        self._ref += 1
        return self._put(encode(Send(type, message, self._ref, attachments)), self._ref)

    def post(self, type: str, message: msgspec.Raw, attachments: tuple[bytes, ...]) -> None:
        """Nobody waits: what a cut connection loses is not sent again. Refused `busy` at the limits."""
        _ = self._put(encode(Send(type, message, None, attachments)), None)

    def refresh(self, token: str) -> asyncio.Future[bytes]:
        """The router's answer to a new token."""
        self._ref += 1
        return self._put(encode(Refresh(token, self._ref)), self._ref, limited=False)

    def read(self, message_id: str) -> asyncio.Future[bytes]:
        """The router's answer to a mark. Refused `busy` at the limits."""
        self._ref += 1
        return self._put(encode(Read(message_id, self._ref)), self._ref)

    def reply(self, message_id: str, payload: msgspec.Raw) -> asyncio.Future[bytes]:
        """The router's answer to a reply. Refused `busy` at the limits."""
        self._ref += 1
        return self._put(encode(Reply(message_id, payload, self._ref)), self._ref)

    def _put(self, frame: bytes, ref: int | None, limited: bool = True) -> asyncio.Future[bytes]:
        waiting = _Waiting(frame, ref, asyncio.get_running_loop().create_future())
        messages = len(self._unsent) + len(self._unanswered)
        full = messages >= self._settings.queue_messages or self._bytes + len(frame) > self._settings.queue_bytes
        if limited and full:
            raise Refused("busy", "too many messages wait to be sent: wait for the answers to earlier ones")
        self._unsent.append(waiting)
        self._bytes += len(frame)
        if ref is not None:
            waiting.future.add_done_callback(lambda _: self._forget(waiting))
        self.idle.clear()
        self._wake.set()
        return waiting.future

    def rewind(self) -> None:
        """A new connection: what has no answer goes again, before what was never sent."""
        self._unsent.extendleft(reversed(self._unanswered.values()))
        self._unanswered.clear()

    def next(self, limit: int | None) -> bytes | None:
        """The next frame to write. One over the server's `limit` is refused here: it would cost the connection."""
        while self._unsent:
            waiting = self._unsent.popleft()
            if limit is not None and len(waiting.frame) > limit:
                self._refuse_size(waiting, limit)
            elif waiting.ref is None:
                frame = waiting.frame
                self._release(waiting)
                return frame
            elif not waiting.future.done():
                self._unanswered[waiting.ref] = waiting
                return waiting.frame
        return None

    def answer(self, ref: int, answer: bytes) -> None:
        """Hands on an answer; one that nothing waits for is ignored. `shutting_down`: again on the next connection."""
        waiting = self._unanswered.get(ref)
        if waiting is None or waiting.future.done():
            return
        try:
            outcome = _read(answer)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise ProtocolError("the server sent an answer of another shape") from error
        if outcome is None:
            waiting.future.set_result(answer)
        elif outcome.code != "shutting_down":
            waiting.future.set_exception(outcome)

    def refuse_largest(self) -> None:
        """The server closed because of a frame's size: it was the largest that has no answer."""
        waiting = max(self._unanswered.values(), key=lambda each: len(each.frame), default=None)
        if waiting is not None:
            self._refuse_size(waiting, len(waiting.frame) - 1)

    def fail(self, closed: Closed) -> None:
        """No connection will come: nothing gets an answer any more."""
        waiting = [*self._unanswered.values(), *self._unsent]
        self._unsent.clear()
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(closed.again())
                each.future.exception()  # where nobody waits for it, that is no error of its own
            self._release(each)

    def statistics(self) -> OutboxStatistics:
        return OutboxStatistics(len(self._unsent), len(self._unanswered), self._bytes)

    def _refuse_size(self, waiting: _Waiting, limit: int) -> None:
        if waiting.ref is None:
            self._release(waiting)
        elif not waiting.future.done():
            waiting.future.set_exception(Refused("too_large", "the server reads no frame of this size", limit=limit))

    def _forget(self, waiting: _Waiting) -> None:
        """Its future is done: answered, failed, or given up by who waited."""
        if waiting.ref is None or self._unanswered.pop(waiting.ref, None) is None:
            with contextlib.suppress(ValueError):
                self._unsent.remove(waiting)
        self._release(waiting)

    def _release(self, waiting: _Waiting) -> None:
        self._bytes -= len(waiting.frame)
        waiting.frame = b""
        if not self._unsent and not self._unanswered:
            self.idle.set()


class _Answer(msgspec.Struct, gc=False):
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str | None = None
    refused: list[str] | None = None


def _read(answer: bytes) -> Refused | None:
    """The refusal in an answer, with `id` and `refused` where it has them; None: it was accepted."""
    told = msgspec.json.decode(answer, type=_Answer)
    if told.error is msgspec.UNSET:
        return None
    details: dict[str, object] = {} if told.id is None else {"id": told.id}
    if told.refused is not None:
        details["refused"] = told.refused
    return refused(read_error(told.error), **details)
