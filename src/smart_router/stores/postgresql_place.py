"""Where a PostgreSQL store is, and in our words what went wrong there."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode

import asyncpg

from smart_router.errors import BrokerAway, ConfigError, StorageError, StorageFailed, StorageFull

__all__ = ["Place", "is_setting", "sqlstate", "translate"]

_FORM: Final = (
    "store: write postgresql://user:password@host:port/database; in the user's name and the password write "
    "@ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*)(?::(\d{1,5}))?")
_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OPTIONS: Final = ("schema", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "target_session_attrs")

_WRONG_SETTINGS: Final = frozenset({"28000", "28P01", "3D000", "42501"})
"""Refused, password, database, rights: what a look at the settings or the server's rights cures."""

_AWAY: Final = frozenset({"08", "25006", "28", "3D", "53300", "57P"})
"""No connection, read-only (a standby), not let in, no such database, no connection free, stopping or starting."""

_FULL: Final = frozenset({"53100"})
_BROKEN: Final = frozenset({"3F", "42P01", "42703", "58", "F0", "XX001", "XX002"})
"""Schema, table or column gone, I/O error, damaged file, damaged page, damaged index."""

_BUSY: Final = frozenset({"40", "53", "55P03", "57014"})
"""Deadlock, memory, a lock or the statement timeout."""


class Place:
    """A parsed URL. `dsn` holds the password and is for asyncpg only: `str` and `repr` never show it.

    Options behind `?`: those of libpq for TLS, `target_session_attrs`, and `schema`, ours: where the tables are.
    Several hosts are separated by commas; the first that can be used is.
    """

    def __init__(self, rest: str) -> None:
        """`rest`: what follows `postgresql://`. ConfigError never repeats what may be a part of the password."""
        before, _, query = rest.partition("?")
        authority, _, database = before.partition("/")
        login, _, hosts = authority.rpartition("@")
        if (
            any(character in rest for character in " #")
            or any("@" in part for part in (login, database, query))
            or not all(_is_host(host) for host in hosts.split(",") if hosts)
            or "/" in database
            or not unquote(rest).isprintable()
        ):
            raise ConfigError([_FORM])
        if not database:
            raise ConfigError([f"{_FORM}: the database is missing"])
        options = _options(query)
        self.schema = options.pop("schema", "smart_router")
        self.dsn = f"postgresql://{before}?{urlencode(options)}"
        user = login.partition(":")[0]
        self._shown = f"postgresql://{user}{'@' if user else ''}{hosts}/{database}"

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Place({self._shown}, schema={self.schema})"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found[1] or 1) < 1 << 16


def _options(query: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise ConfigError([f"store: write what follows `?` as name=value: {', '.join(_OPTIONS)}"]) from None
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise ConfigError([f"store: there is no option `{unknown[0][:32]}`; there is: {', '.join(_OPTIONS)}"])
    if options.get("sslmode", "prefer") not in _SSL_MODES:
        raise ConfigError([f"store: `sslmode` is one of {', '.join(_SSL_MODES)}"])
    if "schema" in options and not _SCHEMA.fullmatch(options["schema"]):
        raise ConfigError(["store: `schema` is a name of small letters, digits and _, at most 63, not beginning pg_"])
    return options


def sqlstate(error: BaseException) -> str:
    """The server's code of the error (PostgreSQL manual, appendix A); "" when it is not one of the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def is_setting(error: BaseException) -> bool:
    """True when a wrong setting is the likely cause, if it happens at the start."""
    return sqlstate(error) in _WRONG_SETTINGS or isinstance(error, asyncpg.ClientConfigurationError)


def translate(error: BaseException, place: Place) -> StorageError:
    """Our error for theirs. Nothing of the rows, and nothing of the URL but what `place` shows."""
    code = sqlstate(error)
    said = _said(error)
    if _is(code, _FULL):
        return StorageFull(f"{place}: {said}: make room; writing goes on by itself")
    if _is(code, _AWAY) or (not code and _is_lost(error)):
        return BrokerAway(f"{place} cannot be used: {said}: see to the server, or correct `store`")
    if _is(code, _BROKEN):
        return StorageFailed(f"{place}: {said}: see to the database; at the next start missing tables are made")
    if _is(code, _BUSY):
        return StorageError(f"{place} is too busy: {said}: the same may work later", "busy")
    return StorageError(f"{place}: {said}")


def _is_lost(error: BaseException) -> bool:
    """An error of the connection that asyncpg or the system raises, not the server."""
    theirs = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, theirs) and not isinstance(error, asyncpg.DataError)


def _is(code: str, codes: frozenset[str]) -> bool:
    return bool(code) and any(code.startswith(one) for one in codes)


def _said(error: BaseException) -> str:
    """One line, without the server's details: those may hold a row."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return "the URL's options cannot be used together, or name a file that cannot be read"
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
