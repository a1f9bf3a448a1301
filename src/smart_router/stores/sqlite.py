"""The store in one SQLite file: for one node, in its data folder."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from smart_router.errors import ConfigError
from smart_router.stores.base import DeadLetter, DeadLetterFilter, Revocation, StoreStatistics, SubEndpoint, Watch
from smart_router.stores.migrations import migrate
from smart_router.stores.salvage import readable_rows
from smart_router.stores.worker import SqliteWorker

__all__ = ["SqliteStore", "from_url"]

ROWS_AT_ONCE: Final = 500
"""Of a statement with many rows: one statement is far cheaper than many beside a busy event loop."""

_COLUMNS: Final = "id, address, type, sender, state, reason, ended_at, checksum, record"
_ADD_REVOCATION: Final = """insert into revocations (kind, name, at, expires_at) values (?, ?, ?, ?)
    on conflict do update set
        at = max(at, excluded.at),
        expires_at = iif(min(expires_at, excluded.expires_at) = 0, 0, max(expires_at, excluded.expires_at))"""
_ADD_SUB_ENDPOINT: Final = "insert into sub_endpoints (endpoint, id, at) values (?, ?, ?) on conflict do nothing"
_PUT_WATCH: Final = """insert into watches (watcher, actor, at, active) values (?, ?, ?, ?)
    on conflict do update set at = excluded.at, active = excluded.active where excluded.at > at"""
_OLDEST: Final = """delete from dead_letters where rowid in
    (select rowid from dead_letters order by ended_at, id, address, type limit ?)"""

# What is read of a damaged file; a record has its checksum, of the rest at least the types must be right.
_RECORDS: Final = "select checksum, record from dead_letters where typeof(record) = 'blob'"
_REVOCATIONS: Final = """select kind, name, at, expires_at from revocations
    where kind in ('jti', 'subject') and typeof(name) = 'text' and typeof(at) = 'integer'
    and typeof(expires_at) = 'integer'"""
_SUB_ENDPOINTS: Final = """select endpoint, id, at from sub_endpoints
    where typeof(endpoint) = 'text' and typeof(id) = 'text' and typeof(at) = 'integer'"""
_WATCHES: Final = """select watcher, actor, at, active from watches
    where typeof(watcher) = 'text' and typeof(actor) = 'text' and typeof(at) = 'integer' and active in (0, 1)"""

_log = structlog.get_logger("smart_router.store")
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def from_url(rest: str, data: Path) -> SqliteStore:
    """`rest`: what follows `sqlite://`: `/` for the data folder's own, `/PATH` for another file (`//…`: absolute)."""
    if not rest.startswith("/"):
        raise ConfigError([f"store: write sqlite:///PATH, with three slashes, not sqlite://{rest}"])
    return SqliteStore(Path(rest[1:]) if rest != "/" else data / "store.db")


class SqliteStore:
    """See Store. The counts are kept beside the file and read from it once, at open."""

    shared = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._worker = SqliteWorker(path)
        self._letters = 0
        self._dropped = 0
        self._damaged = 0
        self._revocations = 0
        self._subs = 0

    async def open(self) -> None:
        def prepare(connection: sqlite3.Connection, aside: Path | None) -> tuple[int, int, int]:
            migrate(connection, self._path)
            if aside is not None:
                self._take_over(connection, aside)
            tables = ("dead_letters", "revocations", "sub_endpoints")
            letters, revocations, subs = (_count(connection, table) for table in tables)
            return letters, revocations, subs

        self._letters, self._revocations, self._subs = await self._worker.open(prepare)

    async def close(self) -> None:
        await self._worker.close()

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        unique = {(one.id, one.address, one.type): one for one in letters}

        def work(connection: sqlite3.Connection) -> int:
            # Away first, so that the number of new ones is known without counting the table.
            replaced = _delete(connection, list(unique))
            _insert(connection, list(unique.values()))
            return len(unique) - replaced

        if unique:
            await self._worker.write(work, self._count_letters)

    async def dead_letters(
        self, where: DeadLetterFilter, *, after: tuple[int, str, str, str] | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        condition, values = _condition(where, after)

        def work(connection: sqlite3.Connection) -> tuple[list[DeadLetter], int]:
            found: list[DeadLetter] = []
            damaged = 0
            query = f"select checksum, record from dead_letters where {condition} order by ended_at, id, address, type"  # noqa: S608 - texts of ours
            for checksum, record in connection.execute(query, values):
                if len(found) >= limit:
                    break
                letter = _decode(checksum, record)
                damaged += letter is None
                found += [letter] if letter is not None else []
            return found, damaged

        found, damaged = await self._worker.read(work)
        if damaged:
            self._damaged = max(self._damaged, damaged)
            _log.error("dead_letters_damaged", path=str(self._path), count=damaged)
        return found

    async def remove_dead_letters(self, keys: Sequence[tuple[str, str, str]]) -> int:
        if not keys:
            return 0

        def work(connection: sqlite3.Connection) -> int:
            return _delete(connection, keys)

        return await self._worker.write(work, lambda removed: self._count_letters(-removed))

    async def remove_ended(self, ends: Sequence[tuple[int, str, str, str]]) -> int:
        if not ends:
            return 0

        def work(connection: sqlite3.Connection) -> int:
            return _delete_ended(connection, ends)

        return await self._worker.write(work, lambda removed: self._count_letters(-removed))

    async def trim_dead_letters(self, *, older_than: int, keep: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            old = connection.execute("delete from dead_letters where ended_at < ?", (older_than,)).rowcount
            surplus = max(0, _count(connection, "dead_letters") - keep)
            return old + (connection.execute(_OLDEST, (surplus,)).rowcount if surplus else 0)

        def then(dropped: int) -> None:
            self._letters -= dropped
            self._dropped += dropped

        return await self._worker.write(work, then)

    async def add_revocation(self, revocation: Revocation) -> None:
        kind, name = ("jti", revocation.jti) if revocation.jti is not None else ("subject", revocation.subject)

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(_ADD_REVOCATION, (kind, name, revocation.at, revocation.expires_at))
            return _count(connection, "revocations")

        await self._worker.write(work, self._set_revocations)

    async def revocations(self) -> list[Revocation]:
        query = "select at, kind, name, expires_at from revocations order by at, kind, name"
        rows = await self._worker.read(lambda connection: connection.execute(query).fetchall())
        return [Revocation(at, **{kind: name}, expires_at=expires_at) for at, kind, name, expires_at in rows]

    async def trim_revocations(self, now: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("delete from revocations where expires_at between 1 and ?", (now,)).rowcount

        return await self._worker.write(work, lambda trimmed: self._set_revocations(self._revocations - trimmed))

    async def add_sub_endpoint(self, sub: SubEndpoint) -> bool:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(_ADD_SUB_ENDPOINT, (sub.endpoint, sub.id, sub.at)).rowcount

        def then(added: int) -> None:
            self._subs += added

        return await self._worker.write(work, then) == 1

    async def sub_endpoints(self) -> list[SubEndpoint]:
        query = "select endpoint, id, at from sub_endpoints order by endpoint, id"
        rows = await self._worker.read(lambda connection: connection.execute(query).fetchall())
        return [SubEndpoint(*row) for row in rows]

    async def put_watches(self, watches: Sequence[Watch]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_PUT_WATCH, watches)

        if watches:
            await self._worker.write(work)

    async def watches(self) -> list[Watch]:
        query = "select watcher, actor, at, active from watches order by watcher, actor"
        rows = await self._worker.read(lambda connection: connection.execute(query).fetchall())
        return [Watch(watcher, actor, at, bool(active)) for watcher, actor, at, active in rows]

    async def trim_watches(self, older_than: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("delete from watches where not active and at < ?", (older_than,)).rowcount

        return await self._worker.write(work)

    async def probe(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "insert into probe (id, value) values (1, 1) on conflict do update set value = value + 1"
            )
            connection.execute("select value from probe where id = 1").fetchone()

        await self._worker.write(work)

    def statistics(self) -> StoreStatistics:
        reason = self._worker.reason
        if not reason and self._damaged:
            reason = f"{self._path}: {self._damaged} dead letters are damaged and not shown"
        return StoreStatistics(self._letters, self._dropped, self._revocations, self._subs, not reason, reason)

    def _take_over(self, connection: sqlite3.Connection, aside: Path) -> None:
        """What can be read of the damaged file goes into the new one."""
        with closing(sqlite3.connect(aside)) as damaged:
            letters = [
                one for one in (_decode(*row) for row in readable_rows(damaged, _RECORDS, "rowid")) if one is not None
            ]
            revocations = readable_rows(damaged, _REVOCATIONS, "kind", "name")
            subs = readable_rows(damaged, _SUB_ENDPOINTS, "endpoint", "id")
            watches = readable_rows(damaged, _WATCHES, "watcher", "actor")
        connection.execute("begin immediate")
        _insert(connection, list({(one.id, one.address, one.type): one for one in letters}.values()))
        connection.executemany(_ADD_REVOCATION, revocations)
        connection.executemany(_ADD_SUB_ENDPOINT, subs)
        connection.executemany(_PUT_WATCH, watches)
        connection.execute("commit")
        counts = [_count(connection, table) for table in ("dead_letters", "revocations", "sub_endpoints", "watches")]
        _log.error("store_put_aside", path=str(self._path), damaged=str(aside), rows_saved=sum(counts))

    # The counts change in the worker's thread only, after the commit: a cancelled caller cannot make them wrong.

    def _count_letters(self, more: int) -> None:
        self._letters += more

    def _set_revocations(self, count: int) -> None:
        self._revocations = count


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    record = msgspec.msgpack.encode(letter)
    key = (letter.id, letter.address, letter.type)
    return (*key, letter.sender, letter.state, letter.reason, letter.ended_at, zlib.crc32(record), record)


def _decode(checksum: int, record: bytes) -> DeadLetter | None:
    """None for a record that is not what was written."""
    if zlib.crc32(record) != checksum:
        return None
    return _decoder.decode(record)


def _condition(where: DeadLetterFilter, after: tuple[int, str, str, str] | None) -> tuple[str, list[Any]]:
    """SQL of ours with places for the values, and the values."""
    parts = ["ended_at >= ?"]
    wanted: list[Any] = [where.since]
    if where.until:
        parts.append("ended_at <= ?")
        wanted.append(where.until)
    for name in ("id", "address", "sender", "state", "reason", "type"):
        if (value := getattr(where, name)) is not None:
            parts.append(f"{name} = ?")
            wanted.append(value)
    if after is not None:
        parts.append("(ended_at, id, address, type) > (?, ?, ?, ?)")
        wanted += after
    return " and ".join(parts), wanted


def _insert(connection: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    for some in _batches(letters):
        places = ",".join(["(?,?,?,?,?,?,?,?,?)"] * len(some))
        values = [value for letter in some for value in _row(letter)]
        connection.execute(f"insert into dead_letters ({_COLUMNS}) values {places}", values)  # noqa: S608 - places


def _delete(connection: sqlite3.Connection, keys: Sequence[tuple[str, str, str]]) -> int:
    deleted = 0
    for some in _batches(keys):
        places = ",".join(["(?,?,?)"] * len(some))
        statement = f"delete from dead_letters where (id, address, type) in (values {places})"  # noqa: S608 - only places
        deleted += connection.execute(statement, [value for key in some for value in key]).rowcount
    return deleted


def _delete_ended(connection: sqlite3.Connection, ends: Sequence[tuple[int, str, str, str]]) -> int:
    deleted = 0
    for some in _batches(ends):
        places = ",".join(["(?,?,?,?)"] * len(some))
        statement = f"delete from dead_letters where (ended_at, id, address, type) in (values {places})"  # noqa: S608 - only places
        deleted += connection.execute(statement, [value for end in some for value in end]).rowcount
    return deleted


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + ROWS_AT_ONCE] for start in range(0, len(items), ROWS_AT_ONCE))


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"select count(*) from {table}").fetchone()[0])  # noqa: S608 - a name of ours
