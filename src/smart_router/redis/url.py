"""`redis://` and `rediss://` URLs: one server, Sentinel or Cluster."""

from __future__ import annotations

import re
import ssl
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from smart_router.errors import ConfigError
from smart_router.urls import client_context, is_clean, is_number

__all__ = ["Host", "RedisUrl"]

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class Host(NamedTuple):
    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class RedisUrl:
    """A parsed URL. Passwords are for the login only: `str` and `repr` never show them.

    redis://user:password@host:port,host:port/db?prefix=sr:&master=name&timeout=5

    `rediss`: TLS. No login, port 6379 and database 0 if missing. A server that runs as a Cluster is recognised: the
    hosts are then where to ask for the others. `master`: the hosts are Sentinels (port 26379), ask them for the master
    of this name; `sentinel_user`, `sentinel_password`: their login. `prefix` (`sr:`): what all keys and channels begin
    with; two installations on one Redis need two. `timeout` (5): seconds until a server that does not answer counts as
    away. With rediss also `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer` default, `verify_none`).
    """

    def __init__(self, text: str, setting: str = "broker.url") -> None:
        """ConfigError names `setting` and repeats nothing that may be a part of a password."""
        self.setting = setting
        scheme, _, rest = text.partition("://")
        before, _, query = rest.partition("?")
        authority, _, database = before.partition("/")
        login, at, hosts = authority.rpartition("@")
        if scheme not in ("redis", "rediss") or not is_clean(rest) or "@" in login + database + query:
            raise self.wrong(_FORM)
        self.secure = scheme == "rediss"
        options = self._options(query)
        self.master = options.get("master")
        self.hosts = self._hosts(hosts, _SENTINEL_PORT if self.master is not None else _PORT)
        user, _, password = login.partition(":")
        self.user, self.password = unquote(user), unquote(password)
        self.sentinel_user = options.get("sentinel_user", "")
        self.sentinel_password = options.get("sentinel_password", "")
        if database and not is_number(database, 0, 65_535):
            raise self.wrong(f"{_FORM}; the database is a number")
        self.database = int(database or 0)
        self.prefix = options.get("prefix", "sr:")
        if not _PREFIX.fullmatch(self.prefix):
            raise self.wrong("`prefix` has at most 64 of A-Z a-z 0-9 . _ : -")
        timeout = options.get("timeout", "5")
        if not is_number(timeout, 1, 300):
            raise self.wrong("`timeout` is a number of seconds from 1 to 300")
        self.timeout = float(timeout)
        self._tls = {name: value for name, value in options.items() if name in _TLS_OPTIONS}
        self._shown = f"{scheme}://{user}{at}{','.join(map(str, self.hosts))}/{self.database}"

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"RedisUrl({self._shown})"

    def wrong(self, text: str) -> ConfigError:
        """An error that names the setting."""
        return ConfigError([f"{self.setting}: {text}"])

    def _hosts(self, text: str, default: int) -> tuple[Host, ...]:
        return tuple(self._host(part, default) for part in text.split(","))

    def _host(self, text: str, default: int) -> Host:
        match = _HOST.fullmatch(text)
        if match is None or not is_number(match[3] or str(default), 1, 65_535):
            raise self.wrong(f"{_FORM}; a port is a number from 1 to 65535")
        return Host(match[1] or match[2], int(match[3] or default))

    def _options(self, query: str) -> dict[str, str]:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError:
            raise self.wrong(f"write what follows `?` as name=value: {', '.join(_OPTIONS)}") from None
        options = dict(pairs)
        if unknown := [name for name in options if name not in _OPTIONS]:
            raise self.wrong(f"there is no option `{unknown[0][:32]}`; there is: {', '.join(_OPTIONS)}")
        if not self.secure and (tls := [name for name in options if name in _TLS_OPTIONS]):
            raise self.wrong(f"`{tls[0]}` is for rediss:// only")
        if options.get("verify", "verify_peer") not in ("verify_peer", "verify_none"):
            raise self.wrong("`verify` is verify_peer or verify_none")
        if "master" not in options and (alone := [name for name in options if name.startswith("sentinel_")]):
            raise self.wrong(f"`{alone[0]}` needs `master`, the name that Sentinel knows")
        return options

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for redis://. Reads files. ConfigError names the one that cannot be used."""
        if not self.secure:
            return None
        return client_context(self._tls, self.wrong)


_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253}))(?::(\d{1,5}))?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TLS_OPTIONS: Final = ("cacertfile", "certfile", "keyfile", "verify")
_OPTIONS: Final = ("prefix", "master", "sentinel_user", "sentinel_password", "timeout", *_TLS_OPTIONS)
_FORM: Final = (
    "write redis://user:password@host:port/database, or rediss:// for TLS; percent-encode what is special in user and"
    " password"
)
