"""`amqp://` and `amqps://` URLs, as RabbitMQ writes them, with several hosts."""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from smart_router.errors import ConfigError
from smart_router.urls import client_context, is_clean, is_number

__all__ = ["AmqpUrl", "Host"]

_PORTS: Final = {"amqp": 5672, "amqps": 5671}


class Host(NamedTuple):
    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class AmqpUrl:
    """A parsed URL. `password` is for the login only: `str` and `repr` never show it.

    amqp://user:password@host:port,host:port/vhost?heartbeat=5&connection_timeout=5000

    Login: guest:guest if missing; port: 5672, with amqps 5671; virtual host: `/` if missing, percent-encoded as all
    else. Options: `heartbeat` in seconds (default 5, at least 1), `connection_timeout` in milliseconds (5000),
    `channel_max` (128); with amqps also `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer` default,
    `verify_none`), `server_name_indication`.
    """

    def __init__(self, text: str, setting: str = "broker.url") -> None:
        """ConfigError names `setting` and repeats nothing that may be a part of the password."""
        self.setting = setting
        scheme, _, rest = text.partition("://")
        before, _, query = rest.partition("?")
        authority, _, vhost = before.partition("/")
        login, at, hosts = authority.rpartition("@")
        if scheme not in _PORTS or not is_clean(rest) or "@" in login + vhost + query or "/" in vhost:
            raise self.wrong(_FORM)
        self.secure = scheme == "amqps"
        self.hosts = self._parse_hosts(hosts, _PORTS[scheme])
        user, colon, password = login.partition(":")
        self.user = unquote(user) if at else "guest"
        self.password = unquote(password) if colon else "" if at else "guest"
        self.vhost = unquote(vhost) or "/"
        self._read_options(query)
        self._shown = f"{scheme}://{user}{at}{','.join(map(str, self.hosts))}/{vhost}"

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"AmqpUrl({self._shown})"

    def wrong(self, text: str) -> ConfigError:
        """An error that names the setting."""
        return ConfigError([f"{self.setting}: {text}"])

    def _parse_hosts(self, text: str, default: int) -> tuple[Host, ...]:
        return tuple(self._parse_host(part, default) for part in text.split(","))

    def _parse_host(self, text: str, default: int) -> Host:
        name, port = text, ""
        if text.startswith("["):
            name, bracket, port = text[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise self.wrong(_FORM)
            port = port[1:]
        elif ":" in text:
            name, _, port = text.partition(":")
        if not name or (port and not is_number(port, 1, 65535)):
            raise self.wrong(f"{_FORM}; a port is a number from 1 to 65535")
        return Host(unquote(name), int(port or default))

    def _read_options(self, query: str) -> None:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError:
            raise self.wrong(f"write what follows `?` as name=value: {', '.join(_OPTIONS)}") from None
        options = dict(pairs)
        if unknown := [name for name in options if name not in _OPTIONS]:
            raise self.wrong(f"there is no option `{unknown[0][:32]}`; there is: {', '.join(_OPTIONS)}")
        if not self.secure and (tls := [name for name in options if name in _TLS_OPTIONS]):
            raise self.wrong(f"`{tls[0]}` is for amqps:// only")
        self.heartbeat = self._number(options, "heartbeat", 5, (1, 3600))
        self.connect_timeout = self._number(options, "connection_timeout", 5000, (1, 600_000)) / 1000
        self.channel_max = self._number(options, "channel_max", 128, (1, 65535))
        if options.get("verify", "verify_peer") not in ("verify_peer", "verify_none"):
            raise self.wrong("`verify` is verify_peer or verify_none")
        self._tls = {name: value for name, value in options.items() if name in _TLS_OPTIONS}

    def _number(self, options: dict[str, str], name: str, default: int, limits: tuple[int, int]) -> int:
        text = options.get(name, str(default))
        if not is_number(text, *limits):
            raise self.wrong(f"`{name}` is a number from {limits[0]} to {limits[1]}")
        return int(text)

    @property
    def server_name(self) -> str | None:
        """What the server's certificate must name, if it is not the host."""
        return self._tls.get("server_name_indication")

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for amqp://. Reads files. ConfigError names the one that cannot be used."""
        if not self.secure:
            return None
        return client_context(self._tls, self.wrong)


_TLS_OPTIONS: Final = ("cacertfile", "certfile", "keyfile", "verify", "server_name_indication")
_OPTIONS: Final = ("heartbeat", "connection_timeout", "channel_max", *_TLS_OPTIONS)
_FORM: Final = "write amqp://user:password@host:port/vhost; percent-encode what is special in name, password and vhost"
