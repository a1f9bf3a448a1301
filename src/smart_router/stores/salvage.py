"""Damaged SQLite files: found at open, put aside, and read as far as they can be."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from smart_router.sqlite import connect, is_corrupt

__all__ = ["connect_sound", "readable_rows"]

CHECKED_WHOLE: Final = 64 * 1024 * 1024
"""Bytes of a file that is checked with all its indexes; a larger one only as far as SQLite reads it to open it."""


def connect_sound(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """A connection to a sound file, and where the damaged one is now that was in its place, if any."""
    connection = None
    try:
        connection = connect(path)
        if _is_sound(connection, path):
            return connection, None
    except sqlite3.Error as error:
        if not is_corrupt(error):
            raise
    _close(connection)
    aside = _put_aside(path)
    return connect(path), aside


def readable_rows(damaged: sqlite3.Connection, query: str, *key: str) -> list[tuple[Any, ...]]:
    """The rows of `query` up to the damage, from the front and from the back; some of them twice, in no order."""
    damaged.text_factory = lambda content: content.decode("utf-8", "replace")
    # Else SQLite reads nothing of a file that is shorter than its head says.
    damaged.execute("pragma writable_schema = on")
    rows: list[tuple[Any, ...]] = []
    for direction in ("asc", "desc"):
        order = ", ".join(f"{column} {direction}" for column in key)
        with suppress(sqlite3.Error):
            for row in damaged.execute(f"{query} order by {order}"):
                rows.append(row)
    return rows


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _is_sound(connection: sqlite3.Connection, path: Path) -> bool:
    if path.stat().st_size > CHECKED_WHOLE:
        connection.execute("select count(*) from sqlite_master").fetchone()
        return True
    return bool(connection.execute("pragma integrity_check(1)").fetchone()[0] == "ok")


def _put_aside(path: Path) -> Path:
    """The file and what belongs to it, under the first name that is free."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    for part in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{part}", f"{aside}{part}")
    return aside
