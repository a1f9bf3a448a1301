"""The schema in PostgreSQL: step by step, all or nothing, one node at a time, never backwards."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from smart_router.errors import ConfigError, StorageError
from smart_router.stores.postgresql import PostgresqlStore
from smart_router.stores.postgresql_place import Place
from smart_router.stores.postgresql_schema import STEPS, migrate
from tests.stores.postgresql_server import connect, fresh_place

ONE = ("create table a (x integer)",)
TWO = ("create table b (x integer)", "insert into b values (1)")
BROKEN = ("create table c (x integer)", "insert into nowhere values (1)")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    connection = await connect()
    place = fresh_place()
    yield place
    await connection.execute(f'drop schema if exists "{place.schema}" cascade')
    await connection.close()


@pytest.fixture
async def connection(place: Place) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect()
    await connection.execute(f'set search_path = "{place.schema}"')
    yield connection
    await connection.close()


async def tables(connection: asyncpg.Connection, place: Place) -> set[str]:
    rows = await connection.fetch("select tablename from pg_tables where schemaname = $1", place.schema)
    return {row[0] for row in rows}


async def test_only_what_is_missing_is_done(connection: asyncpg.Connection, place: Place) -> None:
    assert await migrate(connection, place, [ONE]) == 1
    assert await migrate(connection, place, [ONE]) == 0
    assert await migrate(connection, place, [ONE, TWO]) == 1
    assert await tables(connection, place) == {"a", "b", "schema_version"}


async def test_a_step_that_fails_leaves_nothing(connection: asyncpg.Connection, place: Place) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(connection, place, [ONE, BROKEN, TWO])
    assert await tables(connection, place) == set()
    assert await migrate(connection, place, [ONE, TWO]) == 2


async def test_nodes_that_start_together_take_each_step_once(connection: asyncpg.Connection, place: Place) -> None:
    async def node(steps: Sequence[Sequence[str]]) -> int:
        own = await connect()
        await own.execute(f'set search_path = "{place.schema}"')
        try:
            return await migrate(own, place, steps)
        finally:
            await own.close()

    assert sorted(await asyncio.gather(*(node([ONE, TWO]) for _ in range(5)))) == [0, 0, 0, 0, 2]
    assert await connection.fetchval("select count(*) from b") == 1


async def test_a_newer_schema_is_refused_and_left_alone(connection: asyncpg.Connection, place: Place) -> None:
    await migrate(connection, place, [ONE, TWO])
    with pytest.raises(StorageError, match=r"schema 2, made by a newer .* up to 1: install the newer one"):
        await migrate(connection, place, [ONE])
    assert await tables(connection, place) == {"a", "b", "schema_version"}


async def test_the_store_refuses_a_newer_schema_and_lets_go_of_it(connection: asyncpg.Connection, place: Place) -> None:
    store = PostgresqlStore(place)
    await store.open()
    await store.close()
    await connection.execute("update schema_version set version = $1", len(STEPS) + 1)
    for _ in range(2):
        with pytest.raises(StorageError, match="newer Smart Router"):
            await PostgresqlStore(place).open()


async def test_a_schema_of_somebody_else_is_refused(connection: asyncpg.Connection, place: Place) -> None:
    await connection.execute(f'create schema "{place.schema}"')
    await connection.execute("create table theirs (x integer)")
    with pytest.raises(StorageError, match=r"another program's: name another one with `\?schema=`"):
        await migrate(connection, place)
    assert await tables(connection, place) == {"theirs"}


async def test_an_empty_schema_that_an_administrator_made_is_used(connection: asyncpg.Connection, place: Place) -> None:
    await connection.execute(f'create schema "{place.schema}"')
    assert await migrate(connection, place) == len(STEPS)


async def test_a_database_that_cannot_hold_every_text_is_refused(place: Place) -> None:
    connection = await connect()
    name = place.schema
    await connection.execute(f"create database {name} encoding 'LATIN1' template template0 locale 'C'")
    try:
        latin = Place(f"{place.dsn.partition('://')[2].rpartition('/')[0]}/{name}")
        with pytest.raises(ConfigError, match="has the encoding LATIN1: create the database with encoding 'UTF8'"):
            await PostgresqlStore(latin).open()
    finally:
        await connection.execute(f"drop database {name}")
        await connection.close()
