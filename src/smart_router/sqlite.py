"""SQLite for journal and store: open a file, own it, say in our words what went wrong with it."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smart_router.errors import StorageError, StorageFailed, StorageFull, StorageLocked

__all__ = ["PathLock", "connect", "is_corrupt", "translate"]

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_PRAGMAS: Final = (
    "pragma journal_mode = wal",
    "pragma busy_timeout = 5000",
    "pragma foreign_keys = on",
    "pragma trusted_schema = off",
    "pragma cell_size_check = on",
    "pragma secure_delete = off",
    "pragma journal_size_limit = 67108864",
)


class PathLock:
    """One process owns `path` while this is held: an flock on `path`.lock, which the kernel drops with the process."""

    def __init__(self, path: Path) -> None:
        """Makes missing parents. StorageLocked: another process owns the path; StorageError: it cannot be made."""
        lock = path.with_name(path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise translate(error, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StorageLocked(
                f"{path} is used by another process: stop that one, or give this one a path of its own"
            ) from error

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def connect(path: Path, *, full_sync: bool = True, autocheckpoint: int = 1000) -> sqlite3.Connection:
    """An autocommit connection in WAL mode that may be handed to one other thread; the file is for its owner only.

    `full_sync`: a commit returns after fsync. `autocheckpoint`: WAL pages, 0 when the caller checkpoints itself (SQLite
    hides errors of its automatic checkpoints). Raises sqlite3.Error: what it means depends on the caller (`translate`).
    """
    if str(path) != ":memory:":
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        connection.execute(f"pragma synchronous = {'full' if full_sync else 'normal'}")
        connection.execute(f"pragma wal_autocheckpoint = {autocheckpoint}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _code(error: BaseException) -> int:
    """SQLite's extended result code, 0 when the error has none."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code if isinstance(code, int) else 0


def is_corrupt(error: BaseException) -> bool:
    """True when SQLite found the file damaged, or not one of its own."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translate(error: sqlite3.Error | OSError, path: Path) -> StorageError:
    """Our error for theirs: full and read-only pass by themselves, I/O errors do not."""
    if isinstance(error, OSError):
        if error.errno in _NO_ROOM:
            return StorageFull(f"{path}: {error.strerror}: make room; writing goes on by itself")
        return StorageError(f"{path}: {error.strerror or error}")
    code = _code(error)
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY) or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StorageFull(f"{path}: {error}: make room or make it writable; writing goes on by itself")
    if code == sqlite3.SQLITE_IOERR_WRITE and _cannot_grow(path):
        return StorageFull(f"{path}: the file cannot grow: make room; writing goes on by itself")
    if is_corrupt(error):
        return StorageFailed(f"{path} is damaged ({error}): restart; what can be read is kept, the file is put aside")
    if primary == sqlite3.SQLITE_IOERR:
        return StorageFailed(f"{path}: {error}: the medium failed; check the disk before you start again")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageLocked(f"{path} is locked by another program: stop it, or give this one a path of its own")
    return StorageError(f"{path}: {error}")


def _cannot_grow(path: Path) -> bool:
    """SQLite hides the errno of a failed write: one as far into a file beside it tells whether room is the reason."""
    wal, probe = path.with_name(path.name + "-wal"), path.with_name(path.name + ".probe")
    try:
        size = wal.stat().st_size if wal.exists() else path.stat().st_size
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error.errno in _NO_ROOM
    try:
        os.pwrite(descriptor, bytes(4096), size)
    except OSError as error:
        return error.errno in _NO_ROOM
    finally:
        os.close(descriptor)
        with suppress(OSError):
            probe.unlink()
    return False
