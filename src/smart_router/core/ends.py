"""Bad ends: remembered in the store as dead letters, counted, told as events. Nothing ends in silence.

broker.on_end ─┐
attempts       ├─► end ─► [ bounded queue ] ─► store.add_dead_letters ─► broker.ack (only now it is gone for good)
route_error    ─┘
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from smart_router.brokers.base import End, Entry
from smart_router.clock import Clock
from smart_router.core.events import Events
from smart_router.core.health import Health
from smart_router.errors import StorageError
from smart_router.message import Message
from smart_router.stores.base import DeadLetter, Store

__all__ = ["ENDED", "EndStatistics", "Ends"]

ENDED: Final = -1
"""`Entry.attempts` of what has ended, while the broker keeps it until the store has its dead letter."""

_log = structlog.get_logger("smart_router.ends")
_QUEUE: Final = 10_000  # dead letters on their way to the store; over it the oldest are only counted
_BATCH: Final = 500
_KEEP: Final = 100_000
_KEEP_MS: Final = 7 * 24 * 3600 * 1000
_TRIM_EVERY: Final = 60.0  # s
_EVENT: Final = {
    End.EXPIRED: "message.expired",
    End.DROPPED: "message.dropped",
    End.SUPERSEDED: "message.dropped",
    End.REFUSED: "message.routing_failed",
    End.FAILED: "message.routing_failed",
}


class EndStatistics(NamedTuple):
    counts: dict[tuple[str, str], int]  # (state, reason)
    queued: int
    lost: int  # ends that are counted, but could not be kept as dead letters


class Ends:
    """Keeps each bad end. `forget` is the broker's `ack`; `told`: who else wants to know (recovery, the sender)."""

    def __init__(self, store: Store, events: Events, health: Health, clock: Clock) -> None:
        self._store = store
        self._events = events
        self._health = health
        self._clock = clock
        self._queue: list[tuple[DeadLetter, Entry | None]] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lost = 0
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.forget: Callable[[Sequence[Entry]], None] = lambda _entries: None
        self.told: Callable[[Entry, End, str], None] = lambda _entry, _state, _reason: None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="dead letters")

    async def close(self) -> None:
        """Everything that has ended so far is in the store when this returns, if the store works."""
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self._idle.wait(), 2.0)
        except TimeoutError:
            _log.warning("dead_letters_not_stored", count=len(self._queue))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def on_broker_end(self, entry: Entry, state: End, reason: str) -> None:
        """brokers.base.OnEnd. Refused by the broker: never accepted, the sender is told, nothing is kept."""
        if state is End.REFUSED:
            self._count(entry.message, entry.address, state, reason)
            self.told(entry, state, reason)
        else:
            self.end(entry, state, reason, "")

    def end(self, entry: Entry, state: End, reason: str, detail: str) -> None:
        """`entry` is out of its mailbox with a bad end."""
        self._count(entry.message, entry.address, state, reason)
        self.told(entry, state, reason)
        self._add(self._letter(entry.message, entry.address, state, reason, detail, entry), entry)
        entry.attempts = ENDED

    def route_failed(self, message: Message, address: str, detail: str) -> None:
        """A route raised: the message reached no mailbox, so it is kept here."""
        self._count(message, address, End.FAILED, "route_error")
        self._add(self._letter(message, address, End.FAILED, "route_error", detail, None), None)

    def _count(self, message: Message, address: str, state: End, reason: str) -> None:
        self._counts[state.value, reason] += 1
        name = _EVENT[state]
        if self._events.wanted(name):
            self._events.emit(name, message_id=message.id, actor_id=address, state=state.value, reason=reason)

    def _letter(
        self, message: Message, address: str, state: End, reason: str, detail: str, entry: Entry | None
    ) -> DeadLetter:
        return DeadLetter(
            id=message.id,
            address=address,
            type=message.type,
            sender=message.sender,
            state=state.value,
            reason=reason,
            at=message.at,
            ended_at=self._clock.wall_ms(),
            attempts=entry.attempts if entry else 0,
            deliveries=entry.deliveries if entry else 0,
            detail=detail[:500],
            body=message.body,
            attachments=message.attachments,
        )

    def _add(self, letter: DeadLetter, entry: Entry | None) -> None:
        if len(self._queue) >= _QUEUE:
            _, oldest = self._queue.pop(0)
            self._lost += 1
            if oldest is not None:
                self.forget([oldest])
        self._queue.append((letter, entry))
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        trimmed = self._clock.monotonic()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
                await self._keep(batch)
            self._idle.set()
            if self._clock.monotonic() - trimmed >= _TRIM_EVERY:
                trimmed = self._clock.monotonic()
                await self._trim()

    async def _keep(self, batch: list[tuple[DeadLetter, Entry | None]]) -> None:
        delay = 0.1
        while True:
            try:
                await self._store.add_dead_letters([letter for letter, _ in batch])
                break
            except StorageError as error:
                if delay == 0.1:
                    _log.error("dead_letters_wait_for_store", count=len(batch), error=error.message)
                    self._health.error(f"Dead letters cannot be stored: {error.message}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
        self.forget([entry for _, entry in batch if entry is not None])

    async def _trim(self) -> None:
        try:
            await self._store.trim_dead_letters(older_than=self._clock.wall_ms() - _KEEP_MS, keep=_KEEP)
        except StorageError as error:
            _log.error("dead_letters_not_trimmed", error=error.message)

    def statistics(self) -> EndStatistics:
        return EndStatistics(dict(self._counts), len(self._queue), self._lost)
