"""The schema in PostgreSQL, step by step. A released step is never changed; a new one is added at the end."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from smart_router.errors import ConfigError, StorageError
from smart_router.stores.postgresql_place import Place
from smart_router.stores.postgresql_pool import Connection

__all__ = ["STEPS", "migrate"]

_LOCK: Final = 0x536D5253
"""`SmRS`: the first half of the advisory lock's key; the second is the schema's."""

_PATIENCE: Final = 60
"""Seconds that one statement may take here: another node may be at it, or the tables large."""

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # `key` is a digest of (id, address, type), which may be longer than an index takes; `record` the whole letter.
        # Text is escaped (see `stored` in postgresql.py) and compared byte by byte, whatever the database's language.
        """create table dead_letters (
            key bytea primary key,
            id text collate "C" not null, address text collate "C" not null, type text collate "C" not null,
            sender text collate "C" not null, state text not null, reason text not null,
            ended_at bigint not null, record bytea not null
        )""",
        "create index dead_letters_by_end on dead_letters (ended_at, key)",
        """create table revocations (
            kind text not null, name text collate "C" not null, at bigint not null, expires_at bigint not null,
            primary key (kind, name)
        )""",
        """create table sub_endpoints (
            endpoint text collate "C" not null, id text collate "C" not null, at bigint not null,
            primary key (endpoint, id)
        )""",
        "create table probe (id integer primary key, value bigint not null)",
    ),
    (
        """create table watches (
            watcher text collate "C" not null, actor text collate "C" not null, at bigint not null,
            active boolean not null, primary key (watcher, actor)
        )""",
    ),
)


async def migrate(connection: Connection, place: Place, steps: Sequence[Sequence[str]] = STEPS) -> int:
    """Brings the schema to the newest state in one transaction, one node at a time; the number of steps taken.

    StorageError: a newer program made it, or it is no schema of ours; ConfigError: the database's encoding. Nothing has
    been changed then.
    """
    encoding = await connection.fetchval("show server_encoding")
    if encoding != "UTF8":
        raise ConfigError([f"store: {place} has the encoding {encoding}: create the database with encoding 'UTF8'"])
    async with connection.transaction():
        await connection.execute(f"set local statement_timeout = '{_PATIENCE}s'")
        key = zlib.crc32(place.schema.encode()) - (1 << 31)
        await connection.execute(f"select pg_advisory_xact_lock({_LOCK}, {key})", timeout=_PATIENCE)
        version = await _version(connection, place)
        if version > len(steps):
            raise StorageError(
                f"{place} has schema {version}, made by a newer Smart Router; this one knows up to {len(steps)}: "
                "install the newer one, or name another database, or another `?schema=` in `store`"
            )
        for statement in (statement for step in steps[version:] for statement in step):
            await connection.execute(statement, timeout=_PATIENCE)
        if version < len(steps):
            await connection.execute("update schema_version set version = $1", len(steps))
        return len(steps) - version


async def _version(connection: Connection, place: Place) -> int:
    """Of the schema, which is made when there is none: its own table tells that it is ours."""
    if not await connection.fetchval("select 1 from pg_namespace where nspname = $1", place.schema):
        await connection.execute(f'create schema "{place.schema}"')
    tables = await connection.fetch(
        "select relname from pg_class where relnamespace = (select oid from pg_namespace where nspname = $1)"
        " and relkind in ('r', 'p', 'v', 'm', 'f')",
        place.schema,
    )
    names = {row[0] for row in tables}
    if "schema_version" in names:
        return int(await connection.fetchval("select version from schema_version"))
    if names:
        raise StorageError(
            f"{place}: the schema {place.schema} is another program's: name another one with `?schema=` in `store`"
        )
    await connection.execute("create table schema_version (version integer not null)")
    await connection.execute("insert into schema_version values (0)")
    return 0
