"""The URL of a PostgreSQL store: what is understood, what is refused, and that the password shows nowhere."""

import traceback
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import BrokerAway, ConfigError, StorageError, StorageFailed, StorageFull
from smart_router.stores.postgresql import PostgresqlStore, from_url
from smart_router.stores.postgresql_place import Place, translate


@pytest.mark.parametrize(
    ("rest", "shown", "schema"),
    [
        ("user:hush@db.example.org:5433/chat", "postgresql://user@db.example.org:5433/chat", "smart_router"),
        ("user@db/chat?schema=other_1", "postgresql://user@db/chat", "other_1"),
        ("user:hush%40%2F%3F@[::1]:5432/chat", "postgresql://user@[::1]:5432/chat", "smart_router"),
        ("/chat", "postgresql:///chat", "smart_router"),
        ("u:hush@a:1,b:2/chat?sslmode=require", "postgresql://u@a:1,b:2/chat", "smart_router"),
    ],
)
def test_what_is_understood(rest: str, shown: str, schema: str) -> None:
    place = Place(rest)
    assert (str(place), place.schema) == (shown, schema)
    assert place.dsn.startswith(f"postgresql://{rest.partition('?')[0]}?")
    assert "schema" not in place.dsn
    assert "hush" not in f"{place!r} {place} {PostgresqlStore(place)!r}"


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("", "the database is missing"),
        ("host", "the database is missing"),
        ("user:hush@host/", "the database is missing"),
        ("user:hush@host:port/chat", "write postgresql://user:password@host:port/database"),
        ("user:hush@host:65536/chat", "write postgresql://user:password@host:port/database"),
        ("user:hush@a..b/chat", "write postgresql://user:password@host:port/database"),
        (f"user:hush@{'a' * 64}/chat", "write postgresql://user:password@host:port/database"),
        ("user:hush/1@host/chat", "/ as %2F"),
        ("user:hush?1@host/chat", "? as %3F"),
        ("user:hush#1@host/chat", "# as %23"),
        ("user:hush@1@host/chat", "@ as %40"),
        ("user:hush/chat", "write postgresql://"),
        ("user:hush%00@host/chat", "write postgresql://"),
        ("user:hush@host/chat more", "write postgresql://"),
        ("user:hush@host/chat/more", "write postgresql://"),
        ("user@host/chat?password=hush", "no option `password`; there is: schema, sslmode"),
        ("user@host/chat?sslmode=hush", "`sslmode` is one of disable, allow"),
        ("user@host/chat?sslmode", "write what follows `\\?` as name=value"),
        ("user@host/chat?schema=Hush;", "`schema` is a name"),
        ("user@host/chat?schema=pg_temp", "`schema` is a name"),
    ],
)
def test_what_is_refused_is_not_repeated(rest: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("?", r"\?").replace(r"\\?", r"\?")) as raised:
        Place(rest)
    assert raised.value.message.startswith("store: ")
    assert "hush" not in "".join(traceback.format_exception(raised.value)).lower().replace(rest.lower(), "")
    assert "hush" not in raised.value.message.lower()


@given(st.text())
def test_any_text_is_a_place_or_a_config_error(rest: str) -> None:
    with suppress(ConfigError):
        assert str(from_url(rest, Path())) != rest


@pytest.mark.parametrize(
    ("error", "ours", "code"),
    [
        (asyncpg.DiskFullError("no space"), StorageFull, "storage_full"),
        (asyncpg.DataCorruptedError("bad page"), StorageFailed, "storage_failed"),
        (asyncpg.UndefinedTableError("gone"), StorageFailed, "storage_failed"),
        (asyncpg.AdminShutdownError("stopping"), BrokerAway, "broker_away"),
        (asyncpg.CannotConnectNowError("starting"), BrokerAway, "broker_away"),
        (asyncpg.ReadOnlySQLTransactionError("standby"), BrokerAway, "broker_away"),
        (asyncpg.TooManyConnectionsError("too many"), BrokerAway, "broker_away"),
        (asyncpg.InvalidPasswordError("password"), BrokerAway, "broker_away"),
        (asyncpg.InterfaceError("connection is closed"), BrokerAway, "broker_away"),
        (ConnectionRefusedError(111, "Connection refused"), BrokerAway, "broker_away"),
        (TimeoutError(), BrokerAway, "broker_away"),
        (asyncpg.OutOfMemoryError("memory"), StorageError, "busy"),
        (asyncpg.DeadlockDetectedError("circle"), StorageError, "busy"),
        (asyncpg.QueryCanceledError("timeout"), StorageError, "busy"),
        (asyncpg.DataError("a value"), StorageError, "storage_error"),
        (asyncpg.SyntaxOrAccessError("other"), StorageError, "storage_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_errors_mean(error: BaseException, ours: type[StorageError], code: str) -> None:
    translated = translate(error, Place("u:hush@h/d"))
    assert (type(translated), translated.code) == (ours, code)
    assert translated.message.startswith("postgresql://u@h/d")
