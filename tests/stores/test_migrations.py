"""Schemas: step by step, whole steps only, never backwards."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smart_router.errors import StorageError
from smart_router.sqlite import connect
from smart_router.stores.migrations import SQLITE, migrate
from smart_router.stores.sqlite import SqliteStore

ONE = ("create table a (x integer)",)
TWO = ("create table b (x integer)", "insert into b values (1)")
BROKEN = ("create table c (x integer)", "insert into nowhere values (1)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    yield connection
    connection.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


def test_only_what_is_missing_is_done(connection: sqlite3.Connection, path: Path) -> None:
    assert migrate(connection, path, [ONE]) == 1
    assert migrate(connection, path, [ONE]) == 0
    assert migrate(connection, path, [ONE, TWO]) == 1
    assert tables(connection) == {"a", "b"}


def test_a_step_that_fails_leaves_nothing_of_itself(connection: sqlite3.Connection, path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, [ONE, BROKEN, TWO])
    assert tables(connection) == {"a"}
    assert migrate(connection, path, [ONE, TWO]) == 1


def test_a_newer_schema_is_refused_and_left_alone(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, [ONE, TWO])
    with pytest.raises(StorageError, match=r"schema 2, written by a newer .* up to 1: install the newer one"):
        migrate(connection, path, [ONE])
    assert tables(connection) == {"a", "b"}


def test_a_database_of_somebody_else_is_refused(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("create table theirs (x integer)")
    with pytest.raises(StorageError, match="another program"):
        migrate(connection, path)
    assert tables(connection) == {"theirs"}


async def test_the_store_refuses_a_newer_file_and_lets_go_of_it(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {len(SQLITE) + 1}")
    connection.close()
    for _ in range(2):
        with pytest.raises(StorageError, match="newer Smart Router"):
            await SqliteStore(path).open()
