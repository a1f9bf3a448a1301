"""One SQLite file, one thread: calls come from the event loop, errors come back in our words."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from smart_router.errors import StorageError, StorageFailed
from smart_router.sqlite import PathLock, connect, translate
from smart_router.stores.salvage import connect_sound

__all__ = ["SqliteWorker"]

T = TypeVar("T")

MAX_WAITING: Final = 1_000
IN_MEMORY: Final = Path(":memory:")
"""SQLite's own name for no file: nothing on disk, all forgotten at the end."""


class SqliteWorker:
    """Does one piece of work after the other. At most 1,000 wait: one more is refused with `busy`.

    `reason`: why the last one failed, "" when it did not. After StorageFailed nothing is tried again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reason = ""
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None
        self._lock: PathLock | None = None
        self._connection: sqlite3.Connection | None = None
        self._failed: StorageFailed | None = None

    async def open(self, prepare: Callable[[sqlite3.Connection, Path | None], T]) -> T:
        """Owns the path, opens the file and runs `prepare` on it, not within a transaction.

        `prepare` also gets the place to which a damaged file was put aside; then the one that is open is empty.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            return await self._submit(lambda: self._open(prepare))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """After the work that waits."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._submit(lambda: self._do("begin", work))

    async def write(self, work: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """In one transaction, on disk when this returns; all of it or nothing.

        `then` is called in the thread with the result, after the commit, also when the caller has been cancelled.
        """

        def do() -> T:
            result = self._do("begin immediate", work)
            if then is not None:
                then(result)
            return result

        return await self._submit(do)

    async def _submit(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise StorageError(f"{self.path}: the store is closed")
        if self._waiting >= MAX_WAITING:
            raise StorageError(f"{self.path}: {MAX_WAITING} calls wait already: the disk is too slow for them", "busy")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    # From here on in the thread.

    def _open(self, prepare: Callable[[sqlite3.Connection, Path | None], T]) -> T:
        if self.path == IN_MEMORY:
            self._connection = connect(self.path)
            return prepare(self._connection, None)
        self._lock = PathLock(self.path)
        try:
            self._connection, aside = connect_sound(self.path)
            return prepare(self._connection, aside)
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):  # what was awaited is in the WAL already
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _do(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._failed is not None:
            raise self._failed
        assert self._connection is not None
        try:
            result = self._transaction(self._connection, begin, work)
        except (sqlite3.Error, OSError) as error:
            translated = translate(error, self.path)
            self.reason = translated.message
            if isinstance(translated, StorageFailed):
                self._failed = translated
            raise translated from error
        self.reason = ""
        return result

    @staticmethod
    def _transaction(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                if connection.in_transaction:
                    connection.execute("rollback")
            raise
        return result
