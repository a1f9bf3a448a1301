"""Schemas of SQL stores, step by step. A released step is never changed; a new one is added at the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smart_router.errors import StorageError

__all__ = ["APPLICATION_ID", "SQLITE", "migrate"]

APPLICATION_ID: Final = 0x536D5253
"""`SmRS` in the file's head: a store of Smart Router, and no other database."""

SQLITE: Final[tuple[tuple[str, ...], ...]] = (
    (
        # `record` is the whole letter, `checksum` its CRC-32; the columns before it are what is asked for.
        """create table dead_letters (
            id text not null, address text not null, type text not null, sender text not null,
            state text not null, reason text not null, ended_at integer not null,
            checksum integer not null, record blob not null,
            primary key (id, address, type)
        )""",
        "create index dead_letters_by_end on dead_letters (ended_at, id, address, type)",
        """create table revocations (
            kind text not null, name text not null, at integer not null, expires_at integer not null,
            primary key (kind, name)
        ) without rowid""",
        """create table sub_endpoints (
            endpoint text not null, id text not null, at integer not null,
            primary key (endpoint, id)
        ) without rowid""",
        "create table probe (id integer primary key, value integer not null)",
    ),
    (
        """create table watches (
            watcher text not null, actor text not null, at integer not null, active integer not null,
            primary key (watcher, actor)
        ) without rowid""",
    ),
)


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str]] = SQLITE) -> int:
    """Brings the file to the newest schema, each step in one transaction; the number of steps taken.

    StorageError: a newer program wrote it, or it is no store of ours; then nothing has been changed.
    """
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    is_empty = connection.execute("select 1 from sqlite_master limit 1").fetchone() is None
    if application != APPLICATION_ID and not is_empty:
        raise StorageError(f"{path} is a database of another program: name another path")
    if version > len(steps):
        raise StorageError(
            f"{path} has schema {version}, written by a newer Smart Router; this one knows up to {len(steps)}: "
            "install the newer one again, or name another path"
        )
    for number, statements in enumerate(steps[version:], version + 1):
        _step(connection, number, statements)
    return len(steps) - version


def _step(connection: sqlite3.Connection, number: int, statements: Sequence[str]) -> None:
    connection.execute("begin immediate")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {number}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"pragma {name}").fetchone()[0])
