"""The journal's file: made whole or not at all, checked at each opening, put aside when it is damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from array import array
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from smart_router.brokers.lane import NEVER, REDELIVERED
from smart_router.brokers.rows import CorruptRow, decode_head
from smart_router.brokers.salvage import frames_in_log, readable_rows
from smart_router.errors import StorageError
from smart_router.sqlite import connect, is_corrupt, translate

__all__ = ["Found", "Opened", "open_file"]

_APPLICATION: Final = 0x536D5274
_SCHEMA: Final = (
    f"pragma application_id = {_APPLICATION}",
    "pragma user_version = 1",
    "create table message (seq integer primary key, data blob not null)",
    "create table dedup (sender text, key text, answer blob, at integer, primary key (sender, key)) without rowid",
    "create table probe (data blob)",
)
_PAGE: Final = 5000


class _Damaged(Exception):
    """The file is not what we wrote."""


class Found(NamedTuple):
    """What waits: stubs by priority and address; the keys that may be superseded, by address."""

    lanes: dict[int, dict[str, array[int]]]
    keys: dict[str, dict[str, int]]
    last_seq: int
    dedup: list[tuple[str, str, bytes, int]]


class Opened(NamedTuple):
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    found: Found
    put_aside: Path | None
    rescued: int


def open_file(path: Path, stamp: str, to_monotonic: Callable[[int], int]) -> Opened:
    """Opens, or makes, the journal; blocks. `stamp`: for the name of a damaged file; `to_monotonic`: for deadlines."""
    put_aside, rescued = None, 0
    try:
        _copy_log(path)
        if not path.exists():
            _make(path, {})
        try:
            opened = _open_checked(path, to_monotonic)
            _log_copy(path).unlink(missing_ok=True)
            return opened
        except (_Damaged, CorruptRow, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.Error) and not (is_corrupt(error) or _is_foreign(error)):
                raise
        put_aside = _put_aside(path, stamp)
        rows = readable_rows(put_aside)
        rescued = _make(path, rows)
        opened = _open_checked(path, to_monotonic)
    except (sqlite3.Error, OSError) as error:
        raise translate(error, path) from error
    except (_Damaged, CorruptRow) as error:
        raise StorageError(f"{path} is damaged and could not be made anew: {error}") from error
    return opened._replace(put_aside=put_aside, rescued=rescued)


def _log_copy(path: Path) -> Path:
    return path.with_name(path.name + "-wal.copy")


def _copy_log(path: Path) -> None:
    """SQLite takes what it can read of a damaged log into the file, and deletes the rest: so a copy waits beside it."""
    log, copy = _beside(path)[0], _log_copy(path)
    copy.unlink(missing_ok=True)
    if log.exists() and log.stat().st_size:
        shutil.copyfile(log, copy)
        copy.chmod(0o600)


def _is_foreign(error: sqlite3.Error) -> bool:
    """A flipped bit in the schema shows as a missing table, in the header as a file that is read-only for all."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_READONLY,
    )


def _open_checked(path: Path, to_monotonic: Callable[[int], int]) -> Opened:
    expected = frames_in_log(path)
    if path.stat().st_size == 0 or expected is None:
        raise _Damaged("empty file, or a log without its head")
    writer = connect(path, autocheckpoint=0)
    reader = None
    try:
        _check(writer, expected)
        index = _scan(writer, to_monotonic)
        reader = connect(path, autocheckpoint=0)
        writer.execute("begin immediate")
        writer.execute("insert into probe (data) values (null)")
        writer.execute("delete from probe")
        writer.execute("commit")
    except BaseException:
        writer.close()
        if reader is not None:
            reader.close()
        raise
    return Opened(writer, reader, index, None, 0)


def _check(connection: sqlite3.Connection, expected_frames: int) -> None:
    _, frames, _ = connection.execute("pragma wal_checkpoint(passive)").fetchone()
    if frames < expected_frames:
        raise _Damaged(f"the log has {expected_frames} frames, {frames} can be read")
    if connection.execute("pragma application_id").fetchone()[0] != _APPLICATION:
        raise _Damaged("not a journal")
    problems = connection.execute("pragma quick_check(1)").fetchall()
    if problems != [("ok",)]:
        raise _Damaged(str(problems[0][0]))


def _scan(connection: sqlite3.Connection, to_monotonic: Callable[[int], int]) -> Found:
    lanes: dict[int, dict[str, array[int]]] = {}
    keys: dict[str, dict[str, int]] = {}
    seq = 0
    for seq, data in connection.execute("select seq, data from message order by seq"):
        if not isinstance(data, bytes):
            raise CorruptRow(f"row {seq} of the journal is damaged")
        head = decode_head(seq, data)
        lane = lanes.setdefault(head.priority, {})
        stubs = lane.get(head.address)
        if stubs is None:
            stubs = lane[head.address] = array("q")
        deadline = to_monotonic(head.expires_at) if head.expires_at else NEVER
        stubs.extend((seq, deadline, head.size | REDELIVERED))
        if head.supersede is not None:
            keys.setdefault(head.address, {})[head.supersede] = seq
    dedup = connection.execute("select sender, key, answer, at from dedup order by at").fetchall()
    return Found(lanes, keys, seq, dedup)


def _make(path: Path, rows: dict[int, bytes]) -> int:
    """A fresh journal with these rows, under its name only when it is whole and on disk."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, *_beside(fresh)):
        leftover.unlink(missing_ok=True)
    with closing(connect(fresh)) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("begin")
        items = list(rows.items())
        for start in range(0, len(items), _PAGE):
            connection.executemany(
                "insert or ignore into message (seq, data) values (?, ?)", items[start : start + _PAGE]
            )
        connection.execute("commit")
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return len(rows)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _put_aside(path: Path, stamp: str) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    path.rename(aside)
    wal, shm = _beside(path)
    if wal.exists():
        wal.unlink()
    if _log_copy(path).exists():
        _log_copy(path).rename(_beside(aside)[0])
    shm.unlink(missing_ok=True)
    return aside
