"""The directory in Redis: nodes with leases, and sessions in sorted sets by partition of their actor.

    add ──► one script call a turn and partition ──► the actor's sessions elsewhere
    report ──► lease, and who else lives             a dead node's sessions: ignored, and swept by who sees it first

Every node keeps its own sessions in memory too. After an outage, or when Redis has forgotten, it begins another life
(redis_members.py): all is written again under a new owner, then the old one leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import structlog

from smart_router.clock import Clock
from smart_router.directory.base import DirectoryStatistics, NodeRecord, SessionRecord
from smart_router.directory.redis_members import PARTITIONS, Found, life_of, page_range, partition_of, range_of
from smart_router.directory.redis_nodes import Nodes
from smart_router.directory.redis_pages import read_page
from smart_router.directory.redis_partitions import ask, sessions_key, tag_of
from smart_router.directory.redis_scripts import CHANGE, LOOK, SWEEP
from smart_router.directory.redis_writes import Writes
from smart_router.directory.table import Table
from smart_router.errors import BrokerAway, StorageError
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl

__all__ = ["LEASE", "RedisDirectory"]

LEASE: Final = 10.0

_FAREWELL: Final = 3.0
_A_TURN: Final = 500

_log = structlog.get_logger("smart_router.directory")


class RedisDirectory:
    """See Directory. `add`, `of_actor`, `sessions` and `nodes` ask Redis: they raise BrokerAway while it is away.

    `add` names at most 1,000 sessions; one that raises has added nothing. A change of a session that is known holds in
    any case: it is written with all the rest when Redis is back.
    """

    follows_sessions = False

    def __init__(self, url: RedisUrl, node: str, clock: Clock, *, lease: float = LEASE) -> None:
        self.on_node: Callable[[NodeRecord, bool], None] = lambda record, gone: None
        self.on_session: Callable[[SessionRecord, bool], None] = lambda session, gone: None
        self._redis = Redis(url, name=f"directory-{node}", on_up=self._up, on_down=self._down)
        for script in (LOOK, CHANGE, SWEEP):  # to be loaded with each connection
            self._redis.evaluation(script, ())
        self._nodes = Nodes(self._redis, clock, lease)
        self._nodes.on_node = self._told
        self._nodes.on_ended = self._ended
        self._nodes.on_unknown = self._lost_lease
        self._own = Table()
        self._writes = Writes(self._redis, lambda: self._nodes.owner, self._write_failed)
        self._is_open = False
        self._must_write = False
        self._writing: asyncio.Task[None] | None = None
        self._sweeps: set[asyncio.Task[None]] = set()

    async def open(self, me: NodeRecord) -> None:
        await self._redis.open()
        self._nodes.me = me
        try:
            await self._nodes.join()
        except BaseException:
            await self._redis.close()
            raise
        self._is_open = True

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        await self._end_tasks()
        with suppress(StorageError, TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await self._leave()
        self._writes.fail(BrokerAway("the directory is closed"))
        await self._redis.close()

    async def _leave(self) -> None:
        if self._redis.up:
            await self._nodes.leave(self._nodes.owner)
            await self._sweep([self._nodes.owner])

    async def _end_tasks(self) -> None:
        tasks = [*self._sweeps, *([self._writing] if self._writing is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def abort(self) -> None:
        """Ends without a goodbye, as a crash would."""
        self._is_open = False
        self._redis.abort()

    def report(self, me: NodeRecord) -> None:
        self._nodes.me = me
        if not self._is_open or not self._redis.up:
            return
        if self._must_write and self._writing is None:
            self._write_again()
        else:
            self._nodes.report()

    # Sessions

    async def add(self, session: SessionRecord) -> list[SessionRecord]:
        if self.trouble() and self._own.has(session):
            self._own.add(session)
        self._check()
        old = self._own.add(session)
        if old is not None:
            self._writes.remove(old)
        done: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._writes.add(session, done)
        try:
            return list(await self._living(await done))
        except BaseException:
            if old is None and session in self._own.of_actor(session.actor):
                self.remove(session)
            raise

    def _check(self) -> None:
        if self.trouble():
            raise BrokerAway(self.trouble())

    def remove(self, session: SessionRecord) -> None:
        gone = self._own.remove(session.actor, session.id, session.node)
        if gone is not None and self._redis.up and self._is_open:
            self._writes.remove(gone)

    async def of_actor(self, actor: str) -> list[SessionRecord]:
        self._check()
        first, end = range_of(actor)
        number = partition_of(actor)
        key = sessions_key(self._redis, number)
        found = await self._elsewhere(await self._redis.call(tag_of(number), "ZRANGE", key, first, end, "BYLEX"))
        return sorted([*found, *self._own.of_actor(actor)], key=lambda one: (one.since, one.id))

    async def sessions(self, prefix: str = "", after: str = "", limit: int = 100) -> list[SessionRecord]:
        self._check()
        own = self._own.page(prefix, after, limit)
        return await read_page(self._redis, page_range(prefix, after), own, limit, self._elsewhere)

    async def _elsewhere(self, members: Iterable[bytes]) -> list[SessionRecord]:
        """The sessions of other nodes among these."""
        assert self._nodes.me is not None
        me = self._nodes.me.id
        return [one for one in await self._living(Found(members)) if one.node != me]

    async def _living(self, found: Found) -> list[SessionRecord]:
        """Those of nodes that live, oldest first; of one that a node has written in two lives the later."""
        if found.live is not None:
            return found.live
        if not all(map(self._nodes.is_known, found.owners)):
            await self._nodes.look()
        dead = {owner for owner in found.owners if not self._nodes.lives(owner)}
        sessions: dict[tuple[str, str], SessionRecord] = {}
        for member, (owner, session) in sorted(found.read, key=lambda one: life_of(one[1].owner)):
            if owner in dead:
                self._forget(session.actor, member)
            else:
                sessions[session.node, session.id] = session
        found.live = sorted(sessions.values(), key=lambda one: (one.since, one.id))
        return found.live

    def _forget(self, actor: str, member: bytes) -> None:
        number = partition_of(actor)
        key = sessions_key(self._redis, number)
        self._redis.send(tag_of(number), ("ZREM", key, member), lambda _: None)

    # Nodes

    async def nodes(self) -> list[NodeRecord]:
        self._check()
        await self._nodes.look()
        return self._nodes.records()

    def _told(self, record: NodeRecord, gone: bool) -> None:
        self.on_node(record, gone)

    def _ended(self, owners: list[str]) -> None:
        """Their leases were found ended by this node: it sweeps up."""
        task = asyncio.get_running_loop().create_task(self._sweep(owners))
        self._sweeps.add(task)
        task.add_done_callback(self._sweeps.discard)

    async def _sweep(self, owners: list[str]) -> None:
        """What is left over after a failure is ignored, and goes when somebody comes across it."""
        with suppress(StorageError):
            keys = {number: sessions_key(self._redis, number) for number in range(PARTITIONS)}
            commands = {number: self._redis.evaluation(SWEEP, (key,), *owners) for number, key in keys.items()}
            await ask(self._redis, commands)

    # Outages

    def _up(self) -> None:
        if self._is_open:
            self._write_again()

    def _down(self, reason: str) -> None:
        self._writes.fail(BrokerAway(f"Redis is away: {reason}"))

    def _lost_lease(self) -> None:
        """Redis does not know this life."""
        if self._writing is None:
            self._write_again()

    def _write_failed(self) -> None:
        """With the next report all is written again."""
        self._must_write = True

    def _write_again(self) -> None:
        """All of this node, in another life."""
        self._must_write = True
        if self._writing is None and self._is_open:
            self._writing = asyncio.get_running_loop().create_task(self._rewrite())

    async def _rewrite(self) -> None:
        self._must_write = False
        old = self._nodes.owner
        self._writes.hold()
        try:
            await self._nodes.join()
            self._writes.go_on()
            await self._put_all()
            await self._writes.flushed()
            await self._nodes.leave(old)
            await self._sweep([old])
        except StorageError as error:
            self._must_write = True
            _log.warning("directory_not_written", error=error.message)
        finally:
            self._writes.go_on()
            self._writing = None

    async def _put_all(self) -> None:
        """Some in each turn of the event loop."""
        for number, session in enumerate(list(self._own)):
            if session in self._own.of_actor(session.actor):
                self._writes.add(session)
            if number % _A_TURN == _A_TURN - 1:
                await asyncio.sleep(0)

    def trouble(self) -> str:
        return self._redis.trouble() if self._is_open else "the directory is not open"

    def statistics(self) -> DirectoryStatistics:
        """Sessions: this node's."""
        reason = self.trouble()
        return DirectoryStatistics(len(self._nodes), len(self._own), not reason, reason)
