"""The nodes in Redis: who lives, until when, and what it says of itself.

What is known here is what the last report has brought, a few seconds ago at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from smart_router.clock import Clock
from smart_router.directory.base import NodeRecord
from smart_router.directory.redis_members import node_of, owner_of
from smart_router.directory.redis_scripts import LOOK
from smart_router.errors import StorageError
from smart_router.redis.base import RedisInstallation, Reply, Word

__all__ = ["Nodes"]

_TAG: Final = "dir"
_MAX_DEAD: Final = 10_000

_log = structlog.get_logger("smart_router.directory")


class _Life(NamedTuple):
    until: float  # monotonic
    record: NodeRecord


class Nodes:
    """`on_node`: see Directory. `on_ended`: owners whose lease has ended, told to one node only. `on_unknown`: this
    node has no lease any more."""

    def __init__(self, redis: RedisInstallation, clock: Clock, lease: float) -> None:
        self.on_node: Callable[[NodeRecord, bool], None] = lambda record, gone: None
        self.on_ended: Callable[[list[str]], None] = lambda owners: None
        self.on_unknown: Callable[[], None] = lambda: None
        self.owner = ""
        self.me: NodeRecord | None = None
        self._redis = redis
        self._clock = clock
        self._lease = round(lease * 1000)
        self._life = 0
        self._lives: dict[str, _Life] = {}
        self._dead: dict[str, None] = {}

    def __len__(self) -> int:
        return len({record.id for record in self.records()})

    def records(self) -> list[NodeRecord]:
        """Oldest first, this node's too."""
        found = {life.record.id: life.record for life in self._lives.values()}
        if self.me is not None:
            found[self.me.id] = self.me
        return sorted(found.values(), key=lambda record: (record.started_at, record.id))

    async def join(self) -> None:
        """Begins another life; its owner is known to all before anything is written under it."""
        assert self.me is not None
        self._life += 1
        owner = owner_of(self.me.id, self._life)
        self._take(await self._redis.call(_TAG, *self._command("join", owner)))
        self.owner = owner

    async def look(self) -> None:
        """Asks Redis who lives."""
        self._take(await self._redis.call(_TAG, *self._command("look", self.owner)))

    async def leave(self, owner: str) -> None:
        self._take(await self._redis.call(_TAG, *self._command("leave", owner)))

    def report(self) -> None:
        self._redis.send(_TAG, self._command("report", self.owner), self._reported)

    def is_known(self, owner: str) -> bool:
        """Whether `lives` can tell of it without another look."""
        life = self._lives.get(owner)
        return owner in self._dead or (life is not None and self._clock.monotonic() < life.until)

    def lives(self, owner: str) -> bool:
        """As far as the last look knows. Who is dead once is so for ever."""
        if owner in self._lives:
            return True
        self._dead[owner] = None
        if len(self._dead) > _MAX_DEAD:
            del self._dead[next(iter(self._dead))]
        return False

    def _command(self, step: str, owner: str) -> tuple[Word, ...]:
        keys = (self._redis.key(_TAG, "leases"), self._redis.key(_TAG, "nodes"))
        return self._redis.evaluation(LOOK, keys, step, owner, self._lease, msgspec.json.encode(self.me))

    def _reported(self, answer: Reply) -> None:
        """A report that fails is made good by the next one."""
        if not isinstance(answer, StorageError) and not self._take(answer):
            self.on_unknown()

    def _take(self, answer: Reply) -> bool:
        known, ended, live = answer
        now = self._clock.monotonic()
        before = {life.record.id: life.record for life in self._lives.values()}
        self._lives = {}
        for owner, left, text in zip(live[::3], live[1::3], live[2::3], strict=True):
            record = _read(text)
            if record is not None and node_of(owner.decode()) == record.id:
                self._lives[owner.decode()] = _Life(now + left / 1000, record)
        self._compare(before)
        if ended:
            self.on_ended([owner.decode(errors="replace") for owner in ended])
        return bool(known)

    def _compare(self, before: dict[str, NodeRecord]) -> None:
        after = {life.record.id: life.record for life in self._lives.values()}
        for id_, record in before.items():
            if id_ not in after:
                self._tell(record, gone=True)
        for id_, record in after.items():
            if id_ not in before:
                self._tell(record, gone=False)

    def _tell(self, record: NodeRecord, *, gone: bool) -> None:
        if self.me is None or record.id == self.me.id:
            return
        try:
            self.on_node(record, gone)
        except Exception:  # noqa: BLE001 - somebody else's code; logged with its trace
            _log.exception("directory_listener_failed")


def _read(text: bytes) -> NodeRecord | None:
    try:
        return msgspec.json.decode(text, type=NodeRecord)
    except msgspec.DecodeError:
        return None
