"""This node's changes on their way to Redis.

Per partition one script call is on its way; what comes meanwhile goes with the next: so the order holds, and many
changes at once cost few calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from smart_router.directory.base import SessionRecord
from smart_router.directory.redis_members import PARTITIONS, Found, member_of, node_of, partition_of
from smart_router.directory.redis_partitions import sessions_key, tag_of
from smart_router.directory.redis_scripts import CHANGE
from smart_router.errors import StorageError
from smart_router.redis.base import NotNow, RedisInstallation, Reply

__all__ = ["Writes"]

_AT_ONCE: Final = 500
_TRIES: Final = 50
_RETRY: Final = 0.1


class _Change(NamedTuple):
    """`sign` `+` or `-`; ``: nothing, but `done`, which gets the actor's sessions elsewhere as they are then."""

    sign: str
    session: SessionRecord | None
    done: asyncio.Future[Found] | None


class _Partition:
    __slots__ = ("changes", "is_busy", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.changes: list[_Change] = []
        self.is_busy = False


class Writes:
    """`owner`: under whom what is sent is written. `on_failed`: something may not be in Redis as it should be."""

    def __init__(self, redis: RedisInstallation, owner: Callable[[], str], on_failed: Callable[[], None]) -> None:
        self._redis = redis
        self._owner = owner
        self._on_failed = on_failed
        self._partitions = [_Partition(number) for number in range(PARTITIONS)]
        self._touched: set[int] = set()
        self._held = False

    def add(self, session: SessionRecord, done: asyncio.Future[Found] | None = None) -> None:
        self._put(partition_of(session.actor), _Change("+", session, done))

    def remove(self, session: SessionRecord) -> None:
        self._put(partition_of(session.actor), _Change("-", session, None))

    async def flushed(self) -> None:
        """All that was put up to now is in Redis. Raises StorageError."""
        loop = asyncio.get_running_loop()
        marks: list[asyncio.Future[Found]] = [loop.create_future() for _ in self._partitions]
        for number, mark in enumerate(marks):
            self._put(number, _Change("", None, mark))
        for result in await asyncio.gather(*marks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def hold(self) -> None:
        """Nothing more leaves."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        self._flush()

    def fail(self, error: StorageError) -> None:
        """What waits is dropped, and who waits for it told."""
        for partition in self._partitions:
            changes, partition.changes = partition.changes, []
            self._fail(changes, error)

    def _put(self, number: int, change: _Change) -> None:
        if not self._touched:
            asyncio.get_running_loop().call_soon(self._flush)
        self._touched.add(number)
        self._partitions[number].changes.append(change)

    def _flush(self) -> None:
        if self._held:
            return
        touched, self._touched = self._touched, set()
        for number in touched:
            self._send_next(self._partitions[number])

    def _send_next(self, partition: _Partition) -> None:
        if partition.is_busy or not partition.changes:
            return
        if self._held:
            self._touched.add(partition.number)
            return
        changes = partition.changes[:_AT_ONCE]
        del partition.changes[:_AT_ONCE]
        partition.is_busy = True
        self._send(partition, changes, _TRIES)

    def _send(self, partition: _Partition, changes: list[_Change], tries: int) -> None:
        owner = self._owner()
        actors = list(dict.fromkeys(one.session.actor for one in changes if one.done and one.session))
        words: list[str | bytes | int] = [f"{node_of(owner)}.", len(actors), *actors]
        for change in changes:
            if change.session is not None:
                words += (change.sign, member_of(change.session, owner))
        command = self._redis.evaluation(CHANGE, (sessions_key(self._redis, partition.number),), *words)
        done = partial(self._answered, partition, changes, actors, tries)
        self._redis.send(tag_of(partition.number), command, done)

    def _answered(
        self, partition: _Partition, changes: list[_Change], actors: list[str], tries: int, answer: Reply
    ) -> None:
        if isinstance(answer, NotNow) and tries:
            loop = asyncio.get_running_loop()
            loop.call_later(_RETRY, self._send, partition, changes, tries - 1)
            return
        partition.is_busy = False
        if isinstance(answer, StorageError):
            self._on_failed()
            self._fail(changes, answer)
        else:
            self._tell(changes, dict(zip(actors, map(Found, answer), strict=True)))
        self._send_next(partition)

    @staticmethod
    def _tell(changes: list[_Change], found: dict[str, Found]) -> None:
        for change in changes:
            if change.done is not None and not change.done.done():
                change.done.set_result(found[change.session.actor] if change.session else Found(()))

    @staticmethod
    def _fail(changes: list[_Change], error: StorageError) -> None:
        for change in changes:
            if change.done is not None and not change.done.done():
                change.done.set_exception(error)
