"""The journal's threads: one writes batches, one reads pages. Each owns a connection; the loop gets the results."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from smart_router.brokers.base import Entry, PutDone
from smart_router.errors import StorageError, StorageFailed, StorageFull
from smart_router.sqlite import translate

__all__ = ["Batch", "Reader", "Writer", "in_lists"]

_ROWS_A_STATEMENT: Final = 1000
_CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
_PROBE_BYTES: Final = 64 * 1024
_LISTS: Final = (1, 8, 64, 512)


def in_lists(numbers: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Cuts numbers into lists for `in (…)` of a few fixed lengths (the last fills up), so statements stay prepared."""
    found = []
    for start in range(0, len(numbers), _LISTS[-1]):
        part = list(numbers[start : start + _LISTS[-1]])
        length = next(length for length in _LISTS if length >= len(part))
        part += [part[-1]] * (length - len(part))
        found.append((",".join("?" * length), part))
    return found


class Batch:
    """What goes into one commit. `rows`: seq, data, seq, data …; `keys`: sender, key, answer, wall ms each."""

    __slots__ = ("deletes", "entries", "forget_before", "keys", "keys_done", "probe", "rows", "size")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows: list[int | bytes] = []
        self.size = 0
        self.keys: list[tuple[str, str, bytes, int]] = []
        self.keys_done: list[PutDone] = []
        self.deletes: list[int] = []
        self.forget_before = 0  # wall ms: dedup rows older than this go
        self.probe = False


BatchDone = Callable[[Batch, StorageError | None], None]
ReadDone = Callable[[dict[int, bytes], StorageError | None], None]


class _Worker(threading.Thread):
    """Takes jobs until it gets None; its results run in the event loop."""

    def __init__(self, name: str, path: Path, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name=name, daemon=True)
        self.path = path
        self._connection = connection
        self._loop = loop

    def _tell(self, call: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


class Writer(_Worker):
    """One commit per batch, with fsync; a checkpoint of its own when 16 MiB have gone into the log.

    `done(batch, error)`: a batch without error is on disk. `failed(error)`: the medium failed (in a checkpoint: what
    was committed is safe in the log). After a StorageFailed nothing is written, synced or closed again: a second fsync
    may succeed although the first has lost pages.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        done: BatchDone,
        failed: Callable[[StorageError], None],
    ) -> None:
        super().__init__("journal-writer", path, connection, loop)
        self._done = done
        self._failed = failed
        self._jobs: SimpleQueue[Batch | None] = SimpleQueue()
        self._since_checkpoint = 0
        self._write_failed = False

    def submit(self, batch: Batch | None) -> None:
        """None ends the thread."""
        self._jobs.put(batch)

    def run(self) -> None:
        broken: StorageError | None = None
        while (batch := self._jobs.get()) is not None:
            error = broken or self._write(batch)
            self._report(batch, error)
            if error is None:
                error = self._checkpoint_when_due(batch)
            if isinstance(error, StorageFailed) and broken is None:
                broken = error
                self._tell(partial(self._failed, error))
        if broken is None:
            self._connection.close()

    def _report(self, batch: Batch, error: StorageError | None) -> None:
        self._tell(partial(self._done, batch, error))

    def _write(self, batch: Batch) -> StorageError | None:
        try:
            _commit(self._connection, batch)
        except sqlite3.Error as error:
            failure = self._translated(error)
            with suppress(sqlite3.Error):  # what is not committed is not there, rolled back or not
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
            return failure
        self._write_failed = False
        return None

    def _translated(self, error: sqlite3.Error) -> StorageError:
        """A write that failed though there is room may have failed for want of it a moment ago: it gets one more try.

        Not so a failed sync: what it left behind nobody knows.
        """
        failure = translate(error, self.path)
        again = isinstance(failure, StorageFailed) and error.sqlite_errorcode == sqlite3.SQLITE_IOERR_WRITE
        if not again or self._write_failed:
            return failure
        self._write_failed = True
        return StorageFull(f"{self.path}: a write failed: it is tried once more")

    def _checkpoint_when_due(self, batch: Batch) -> StorageError | None:
        self._since_checkpoint += batch.size + 64 * len(batch.deletes)
        if self._since_checkpoint < _CHECKPOINT_BYTES:
            return None
        self._since_checkpoint = 0
        try:
            self._connection.execute("pragma wal_checkpoint(passive)").fetchall()
        except sqlite3.Error as error:
            return self._translated(error)
        return None


def _commit(connection: sqlite3.Connection, batch: Batch) -> None:
    connection.execute("begin immediate")
    rows = batch.rows
    for start in range(0, len(rows), 2 * _ROWS_A_STATEMENT):
        part = rows[start : start + 2 * _ROWS_A_STATEMENT]
        places = ",".join(("(?,?)",) * (len(part) // 2))
        connection.execute(f"insert into message (seq, data) values {places}", part)  # noqa: S608 (places only)
    for start in range(0, len(batch.keys), _ROWS_A_STATEMENT):
        keys = batch.keys[start : start + _ROWS_A_STATEMENT]
        places = ",".join(("(?,?,?,?)",) * len(keys))
        sql = f"insert or replace into dedup (sender, key, answer, at) values {places}"  # noqa: S608 (places only)
        connection.execute(sql, [value for key in keys for value in key])
    batch.deletes.sort()
    for places, seqs in in_lists(batch.deletes):
        connection.execute(f"delete from message where seq in ({places})", seqs)  # noqa: S608 (places only)
    if batch.forget_before:
        connection.execute("delete from dedup where at < ?", (batch.forget_before,))
    if batch.probe:
        connection.execute("insert into probe (data) values (zeroblob(?))", (_PROBE_BYTES,))
        connection.execute("delete from probe")
    connection.execute("commit")


class Reader(_Worker):
    """Reads rows by number, on a connection of its own: a reader waits for no commit."""

    def __init__(self, path: Path, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__("journal-reader", path, connection, loop)
        self._jobs: SimpleQueue[tuple[list[int], ReadDone] | None] = SimpleQueue()

    def submit(self, seqs: list[int], done: ReadDone) -> None:
        self._jobs.put((seqs, done))

    def stop(self) -> None:
        self._jobs.put(None)

    def run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._read(*job)
        self._connection.close()

    def _read(self, seqs: list[int], done: ReadDone) -> None:
        rows: dict[int, bytes] = {}
        failed: StorageError | None = None
        try:
            for places, part in in_lists(seqs):
                sql = f"select seq, data from message where seq in ({places})"  # noqa: S608 (places only)
                rows.update(self._connection.execute(sql, part).fetchall())
        except sqlite3.Error as error:
            failed = translate(error, self.path)
        self._tell(lambda: done(rows, failed))
