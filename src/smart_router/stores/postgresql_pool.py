"""Connections to one PostgreSQL server: few, with time limits, made again by themselves after an outage.

read ──► one of a few ─┐
write ─► one at a time ┼─► connection ─► our result, or our error
watch ─► now and then ─┘                 no server: away, all calls refused at once until the watch finds it again
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from random import Random
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import asyncpg
import structlog

from smart_router.errors import BrokerAway, ConfigError, StorageError
from smart_router.stores.postgresql_place import Place, is_setting, sqlstate, translate

__all__ = ["Connection", "Limits", "PostgresqlPool"]

T = TypeVar("T")

_AGAIN: Final = frozenset({"40001", "40P01"})
"""Serialization and deadlock: nothing was done, and the same works when the other is through."""

_ATTEMPTS: Final = 3
# The internal one too: asyncpg raises it for a connection that the server ended between two statements.
_THEIRS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_log = structlog.get_logger("smart_router.store")


class Limits(NamedTuple):
    """Times in seconds. `connections`: of this node; one of them is for writing. `check`: between looks at the server.

    `first_wait`, `longest_wait`: between attempts to reach a server that is away, doubled each time, with jitter.
    """

    connections: int = 4
    waiting: int = 1_000
    connect: float = 5.0
    statement: float = 10.0
    check: float = 10.0
    first_wait: float = 0.1
    longest_wait: float = 10.0


class Connection(Protocol):
    """What we use of asyncpg's connection, which brings no types."""

    async def execute(self, query: str, *values: object, timeout: float | None = None) -> str: ...
    async def fetch(self, query: str, *values: object) -> list[Sequence[Any]]: ...
    async def fetchrow(self, query: str, *values: object) -> Sequence[Any]: ...
    async def fetchval(self, query: str, *values: object) -> Any: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...


Work = Callable[[Connection], Awaitable[T]]


class PostgresqlPool:
    """At most `waiting` calls at a time: one more is refused with `busy`. What was begun ends, whoever gave up waiting.

    `reason`: why the last call failed, or why the server is away; "" when neither.
    """

    def __init__(self, place: Place, limits: Limits, random: Random) -> None:
        self.place = place
        self.reason = ""
        self._limits = limits
        self._random = random
        self._pool: Any = None
        self._closed = True
        self._calls: set[asyncio.Task[Any]] = set()
        self._writing = asyncio.Lock()
        self._reading = asyncio.Semaphore(limits.connections - 1)
        self._away = ""
        self._alarm = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def open(self, prepare: Work[None], check: Work[None]) -> None:
        """Runs `prepare`, and `check` then and at every look at the server: no write of this node is under way then.

        ConfigError: the URL or the rights; BrokerAway: the server cannot be used. Neither is tried again.
        """
        try:
            self._pool = self._make_pool()
            await self._pool
            await self._use(prepare)
            await self._use(check)
        except _THEIRS as error:
            await self.close()
            translated = translate(error, self.place)
            raise ConfigError([f"store: {translated.message}"]) if is_setting(error) else translated from error
        except BaseException:
            await self.close()
            raise
        self._closed = False
        self._watcher = asyncio.create_task(self._watch(check), name="store watch")

    def _make_pool(self) -> Any:
        limits = self._limits
        return asyncpg.create_pool(
            self.place.dsn,
            min_size=0,
            max_size=limits.connections,
            timeout=limits.connect,
            command_timeout=limits.statement + limits.connect,  # the server's own limit comes first
            server_settings={
                "application_name": f"smart-router {self.place.schema}",
                "search_path": f'"{self.place.schema}"',
                "default_transaction_isolation": "read committed",
                "statement_timeout": str(round(limits.statement * 1000)),
                "idle_in_transaction_session_timeout": str(round(limits.statement * 2000)),
            },
        )

    async def close(self) -> None:
        """After what was begun. A second time does nothing."""
        self._closed = True
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
        await asyncio.gather(*self._calls, return_exceptions=True)
        pool, self._pool = self._pool, None
        if pool is not None:
            await self._say_goodbye(pool)

    async def _say_goodbye(self, pool: Any) -> None:
        try:
            async with asyncio.timeout(self._limits.connect):
                await pool.close()
        except _THEIRS:
            pool.terminate()

    async def read(self, work: Work[T]) -> T:
        async def call() -> T:
            async with self._reading:
                self._refuse_while_away()
                return await self._do(work)

        return await self._submit(call)

    async def write(self, work: Work[T], then: Callable[[T], None] | None = None) -> T:
        """In one transaction, on disk when this returns; all of it or nothing, after a lost connection one of the two.

        `then` is called with the result after the commit, also when the caller has been cancelled.
        """

        async def transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        async def call() -> T:
            async with self._writing:
                self._refuse_while_away()
                result = await self._do(transaction)
                if then is not None:
                    then(result)
                return result

        return await self._submit(call)

    async def _submit(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._closed:
            raise StorageError(f"{self.place}: the store is closed")
        self._refuse_while_away()
        if len(self._calls) >= self._limits.waiting:
            raise StorageError(f"{self.place}: {len(self._calls)} calls wait already: the server is too slow", "busy")
        task = asyncio.create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: the caller may have given up

    def _refuse_while_away(self) -> None:
        if self._away:
            raise BrokerAway(self._away)

    async def _do(self, work: Work[T]) -> T:
        """Errors in our words; what was rolled back because of another's work is done again."""
        attempt = 1
        while True:
            try:
                result = await self._use(work)
            except _THEIRS as error:
                if sqlstate(error) not in _AGAIN or attempt == _ATTEMPTS:
                    raise self._note(error) from error
                attempt += 1
            else:
                self.reason = self._away
                return result

    async def _use(self, work: Work[T]) -> T:
        connection = await self._pool.acquire()
        try:
            return await work(connection)
        except (OSError, asyncpg.InternalClientError, asyncio.CancelledError):
            connection.terminate()  # its state is unknown
            raise
        finally:
            with suppress(*_THEIRS):  # what was awaited is done; a connection that cannot be reset is dropped
                await self._pool.release(connection, timeout=self._limits.connect)

    def _note(self, error: BaseException) -> StorageError:
        translated = translate(error, self.place)
        self.reason = translated.message
        if isinstance(translated, BrokerAway):
            if not self._away:
                _log.error("store_away", reason=translated.message)
                self._alarm.set()
            self._away = translated.message
        return translated

    async def _watch(self, check: Work[None]) -> None:
        failures = 0
        while True:
            await self._until_next_look(failures)
            if self._away:
                await self._pool.expire_connections()  # made before the outage
            failures = 0 if await self._look(check) else failures + 1

    async def _until_next_look(self, failures: int) -> None:
        """An outage that begins is looked at at once."""
        limits = self._limits
        wait = limits.check
        if self._away:
            wait = min(limits.first_wait * 2 ** min(failures, 20), limits.longest_wait) * self._random.uniform(0.5, 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._alarm.wait()
        self._alarm.clear()

    async def _look(self, check: Work[None]) -> bool:
        """False: the server is away."""
        try:
            async with self._writing:
                await self._use(check)
        except _THEIRS as error:
            self._note(error)
            return not self._away
        was_away, self._away, self.reason = self._away, "", ""
        if was_away:
            _log.warning("store_back", store=str(self.place))
        return True
