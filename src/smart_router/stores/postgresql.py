"""The store in PostgreSQL: many nodes may share it; its tables are in a schema of their own.

A count of statistics() is that of the last look at the tables and what this node has done since; what other nodes have
done is in it after the next look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import structlog

from smart_router.stores.base import DeadLetter, DeadLetterFilter, Revocation, StoreStatistics, SubEndpoint, Watch
from smart_router.stores.postgresql_place import Place
from smart_router.stores.postgresql_pool import Connection, Limits, PostgresqlPool
from smart_router.stores.postgresql_schema import migrate

__all__ = ["PostgresqlStore", "from_url"]

ROWS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 16 * 1024 * 1024
"""Of one statement that adds dead letters; a larger letter goes alone."""

_COUNTS: Final = """select (select count(*) from dead_letters), (select count(*) from revocations),
    (select count(*) from sub_endpoints)"""

# `xmax = 0` of a row returned: it was inserted, not updated.
_ADD_LETTERS: Final = """with put as (
    insert into dead_letters (key, id, address, type, sender, state, reason, ended_at, record)
    select * from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::bigint[], $9::bytea[])
    on conflict (key) do update set sender = excluded.sender, state = excluded.state, reason = excluded.reason,
        ended_at = excluded.ended_at, record = excluded.record
    returning xmax = 0 as is_new)
    select count(*) filter (where is_new) from put"""
# Rows are always locked in the order of their keys, so that no two nodes wait for each other in a circle. One statement
# is one look at the table: of nodes that trim at the same time each row goes by one.
_DELETE: Final = """with doomed as (select key from dead_letters where {} order by key for update),
    gone as (delete from dead_letters where key in (select key from doomed) returning 1)
    select count(*) from gone"""
_REMOVE_LETTERS: Final = _DELETE.format("key = any($1::bytea[])")
_REMOVE_ENDED: Final = _DELETE.format(
    "(key, ended_at) in (select * from unnest($1::bytea[], $2::bigint[]))",
)
_TRIM_LETTERS: Final = _DELETE.format(
    "ended_at < $1 or key in (select key from dead_letters order by ended_at desc, key desc offset $2)"
)
_ADD_REVOCATION: Final = """insert into revocations as old (kind, name, at, expires_at) values ($1, $2, $3, $4)
    on conflict (kind, name) do update set
        at = greatest(old.at, excluded.at),
        expires_at = case when least(old.expires_at, excluded.expires_at) = 0 then 0
            else greatest(old.expires_at, excluded.expires_at) end
    returning xmax = 0"""
_TRIM_REVOCATIONS: Final = """with gone as (delete from revocations where expires_at between 1 and $1 returning 1)
    select count(*) from gone"""
_ADD_SUB_ENDPOINT: Final = """insert into sub_endpoints (endpoint, id, at) values ($1, $2, $3)
    on conflict do nothing returning 1"""
_PUT_WATCHES: Final = """insert into watches as old (watcher, actor, at, active)
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[])
    on conflict (watcher, actor) do update set at = excluded.at, active = excluded.active where excluded.at > old.at"""
_TRIM_WATCHES: Final = """with doomed as (
    select watcher, actor from watches where not active and at < $1 order by watcher, actor for update),
    gone as (delete from watches where (watcher, actor) in (select * from doomed) returning 1)
    select count(*) from gone"""
_PROBE: Final = """insert into probe as old (id, value) values (1, 1)
    on conflict (id) do update set value = old.value + 1 returning value"""

_log = structlog.get_logger("smart_router.store")
_decoder = msgspec.msgpack.Decoder(DeadLetter)

_Row = tuple[bytes, str, str, str, str, str, str, int, bytes]
_Key = tuple[int, str, str, str]


def from_url(rest: str, data: Path) -> PostgresqlStore:
    """`rest`: what follows `postgresql://`; `data` is not used."""
    return PostgresqlStore(Place(rest))


class PostgresqlStore:
    """See Store. While the server is away every call raises BrokerAway at once; it is found again by itself."""

    shared = True

    def __init__(self, place: Place, limits: Limits | None = None, random: Random | None = None) -> None:
        self._place = place
        self._pool = PostgresqlPool(place, limits or Limits(), random or Random())  # noqa: S311 - jitter, no secret
        self._letters = 0
        self._dropped = 0
        self._damaged = 0
        self._revocations = 0
        self._subs = 0

    def __repr__(self) -> str:
        return f"PostgresqlStore({self._place})"

    async def open(self) -> None:
        async def prepare(connection: Connection) -> None:
            await migrate(connection, self._place)

        await self._pool.open(prepare, self._check)

    async def close(self) -> None:
        await self._pool.close()

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        rows = sorted({row[0]: row for row in map(_row, letters)}.values())

        async def work(connection: Connection) -> int:
            return sum([await connection.fetchval(_ADD_LETTERS, *zip(*some, strict=True)) for some in _batches(rows)])

        if rows:
            await self._pool.write(work, self._count_letters)

    async def dead_letters(
        self, where: DeadLetterFilter, *, after: _Key | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        async def work(connection: Connection) -> tuple[list[DeadLetter], int]:
            found: list[DeadLetter] = []
            damaged, last, is_more = 0, _stored_key(after), True
            while is_more and len(found) < limit:
                asked = limit - len(found)
                condition, values = _condition(where, last)
                query = f"""select record, ended_at, id, address, type from dead_letters where {condition}
                    order by ended_at, id, address, type limit {asked}"""  # noqa: S608 - texts of ours and a number
                rows = await connection.fetch(query, *values)
                letters = [_decode(row[0]) for row in rows]
                damaged += letters.count(None)
                found += [letter for letter in letters if letter is not None]
                is_more = len(rows) == asked
                last = (rows[-1][1], rows[-1][2], rows[-1][3], rows[-1][4]) if rows else last
            return found, damaged

        found, damaged = await self._pool.read(work)
        if damaged:
            self._damaged = max(self._damaged, damaged)
            _log.error("dead_letters_damaged", store=str(self._place), count=damaged)
        return found

    async def remove_dead_letters(self, keys: Sequence[tuple[str, str, str]]) -> int:
        async def work(connection: Connection) -> int:
            return int(await connection.fetchval(_REMOVE_LETTERS, sorted(_digest(*key) for key in keys)))

        return await self._pool.write(work, lambda removed: self._count_letters(-removed)) if keys else 0

    async def remove_ended(self, ends: Sequence[_Key]) -> int:
        async def work(connection: Connection) -> int:
            keys = [_digest(*end[1:]) for end in ends]
            return int(await connection.fetchval(_REMOVE_ENDED, keys, [end[0] for end in ends]))

        return await self._pool.write(work, lambda removed: self._count_letters(-removed)) if ends else 0

    async def trim_dead_letters(self, *, older_than: int, keep: int) -> int:
        async def work(connection: Connection) -> int:
            return int(await connection.fetchval(_TRIM_LETTERS, older_than, keep))

        def then(dropped: int) -> None:
            self._letters -= dropped
            self._dropped += dropped

        return await self._pool.write(work, then)

    async def add_revocation(self, revocation: Revocation) -> None:
        kind, name = ("jti", revocation.jti) if revocation.jti is not None else ("subject", revocation.subject or "")

        async def work(connection: Connection) -> int:
            values = (kind, _stored(name), revocation.at, revocation.expires_at)
            return int(await connection.fetchval(_ADD_REVOCATION, *values))

        await self._pool.write(work, self._count_revocations)

    async def revocations(self) -> list[Revocation]:
        query = "select at, kind, name, expires_at from revocations order by at, kind, name"
        rows = await self._pool.read(lambda connection: connection.fetch(query))
        return [Revocation(at, **{kind: _restored(name)}, expires_at=expires) for at, kind, name, expires in rows]

    async def trim_revocations(self, now: int) -> int:
        async def work(connection: Connection) -> int:
            return int(await connection.fetchval(_TRIM_REVOCATIONS, now))

        return await self._pool.write(work, lambda trimmed: self._count_revocations(-trimmed))

    async def add_sub_endpoint(self, sub: SubEndpoint) -> bool:
        async def work(connection: Connection) -> int:
            return await connection.fetchval(_ADD_SUB_ENDPOINT, _stored(sub.endpoint), _stored(sub.id), sub.at) or 0

        def then(added: int) -> None:
            self._subs += added

        return await self._pool.write(work, then) == 1

    async def sub_endpoints(self) -> list[SubEndpoint]:
        query = "select endpoint, id, at from sub_endpoints order by endpoint, id"
        rows = await self._pool.read(lambda connection: connection.fetch(query))
        return [SubEndpoint(_restored(endpoint), _restored(name), at) for endpoint, name, at in rows]

    async def put_watches(self, watches: Sequence[Watch]) -> None:
        latest = {one[:2]: one for one in sorted(watches, key=lambda one: one.at)}
        rows = [(_stored(one.watcher), _stored(one.actor), one.at, one.active) for one in latest.values()]

        async def work(connection: Connection) -> None:
            await connection.execute(_PUT_WATCHES, *zip(*sorted(rows), strict=True))

        if rows:
            await self._pool.write(work)

    async def watches(self) -> list[Watch]:
        query = "select watcher, actor, at, active from watches order by watcher, actor"
        rows = await self._pool.read(lambda connection: connection.fetch(query))
        return [Watch(_restored(watcher), _restored(actor), at, active) for watcher, actor, at, active in rows]

    async def trim_watches(self, older_than: int) -> int:
        async def work(connection: Connection) -> int:
            return int(await connection.fetchval(_TRIM_WATCHES, older_than))

        return await self._pool.write(work)

    async def probe(self) -> None:
        await self._pool.write(self._check)

    def statistics(self) -> StoreStatistics:
        reason = self._pool.reason
        if not reason and self._damaged:
            reason = f"{self._place}: {self._damaged} dead letters are damaged and not shown"
        return StoreStatistics(self._letters, self._dropped, self._revocations, self._subs, not reason, reason)

    # The counts change while nothing else of this node is written, after the commit: a cancelled caller, or a look at
    # the tables between, cannot make them wrong.

    async def _check(self, connection: Connection) -> None:
        """Writes, so that a server that has become a standby is found out."""
        await connection.fetchval(_PROBE)
        self._letters, self._revocations, self._subs = await connection.fetchrow(_COUNTS)

    def _count_letters(self, more: int) -> None:
        self._letters += more

    def _count_revocations(self, more: int) -> None:
        self._revocations += more


def _stored(text: str) -> str:
    r"""PostgreSQL's text holds no NUL: it is written `\0`, and so a backslash `\\`."""
    return text.replace("\\", "\\\\").replace("\0", "\\0")


def _restored(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\0" if match[1] == "0" else "\\", text)


def _stored_key(key: _Key | None) -> _Key | None:
    return key and (key[0], _stored(key[1]), _stored(key[2]), _stored(key[3]))


def _digest(*key: str) -> bytes:
    return blake2b(msgspec.msgpack.encode(key), digest_size=16).digest()


def _row(letter: DeadLetter) -> _Row:
    return (
        _digest(letter.id, letter.address, letter.type),
        _stored(letter.id),
        _stored(letter.address),
        _stored(letter.type),
        _stored(letter.sender),
        _stored(letter.state),
        _stored(letter.reason),
        letter.ended_at,
        msgspec.msgpack.encode(letter),
    )


def _decode(record: bytes) -> DeadLetter | None:
    """None for a record that is not what was written."""
    try:
        return _decoder.decode(record)
    except msgspec.MsgspecError:
        return None


def _condition(where: DeadLetterFilter, after: _Key | None) -> tuple[str, list[Any]]:
    """SQL of ours with places for the values, and the values; `after` as it is stored."""
    parts = ["ended_at >= $1"]
    wanted: list[Any] = [where.since if after is None else max(where.since, after[0])]

    def add(part: str, *values: object) -> None:
        places = [f"${len(wanted) + number}" for number in range(1, len(values) + 1)]
        parts.append(part.format(", ".join(places)))
        wanted.extend(values)

    if where.until:
        add("ended_at <= {}", where.until)
    for name in ("id", "address", "sender", "state", "reason", "type"):
        if (value := getattr(where, name)) is not None:
            add(f"{name} = {{}}", _stored(value))
    if after is not None:
        add("(ended_at, id, address, type) > ({})", *after)
    return " and ".join(parts), wanted


def _batches(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    some: list[_Row] = []
    size = 0
    for row in rows:
        if some and (len(some) >= ROWS_AT_ONCE or size + len(row[-1]) > BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(row)
        size += len(row[-1])
    yield some
