"""Connecting to one server: login, database, and whether it is one that we can work with."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

import hiredis

from smart_router.errors import BrokerAway
from smart_router.redis.base import Reply, Server, Word
from smart_router.redis.errors import LOGIN_ERRORS, error_of
from smart_router.redis.link import BROKEN, Link
from smart_router.redis.url import Host, RedisUrl

__all__ = ["Greeter", "Login", "ask"]

_OLDEST: Final = (7, 0)


class Login(NamedTuple):
    user: str
    password: str


async def ask(link: Link, *command: Word) -> Reply:
    """One command during the greeting. BrokerAway without an answer; hiredis.ReplyError is returned."""
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    link.send(command, lambda answer: None if future.done() else future.set_result(answer))
    answer = await future
    if answer is BROKEN:
        raise BrokerAway("it closed the connection")
    return answer


class Greeter:
    """Makes links that are logged in. `name`: of the client, as Redis' CLIENT LIST shows it."""

    def __init__(self, url: RedisUrl, name: str) -> None:
        self._url = url
        self._name = name
        self._context: ssl.SSLContext | None = None

    def read_files(self) -> None:
        """ConfigError: a certificate that cannot be used."""
        self._context = self._url.ssl_context()

    async def connect(
        self, host: Host, on_push: Callable[[list[Reply]], None], on_lost: Callable[[Link, str], None]
    ) -> tuple[Link, Server, bool]:
        """(link, server, is it a master). ConfigError, or BrokerAway with the reason."""
        link, hello = await self._greet(host, Login(self._url.user, self._url.password), on_push, on_lost)
        try:
            server = _server(host, hello)
            self._check(server)
            if self._url.database and server.mode == "standalone":
                self._accept(await ask(link, "SELECT", self._url.database), "the database")
        except BaseException:
            link.abort()
            raise
        return link, server, hello.get(b"role") == b"master"

    async def connect_sentinel(self, host: Host) -> Link:
        login = Login(self._url.sentinel_user, self._url.sentinel_password)
        link, hello = await self._greet(host, login, lambda _parts: None, lambda _link, _reason: None)
        if hello.get(b"mode") != b"sentinel":
            link.abort()
            raise self._url.wrong(f"{host} is no Sentinel: leave `master` away, or name the Sentinels")
        return link

    async def _greet(
        self,
        host: Host,
        login: Login,
        on_push: Callable[[list[Reply]], None],
        on_lost: Callable[[Link, str], None],
    ) -> tuple[Link, dict[bytes, Reply]]:
        link: Link | None = None
        try:
            async with asyncio.timeout(self._url.timeout):
                link = await self._dial(host, on_push, on_lost)
                words: tuple[Word, ...] = ("HELLO", 3)
                if login.password:
                    words += ("AUTH", login.user or "default", login.password)
                hello = await ask(link, *words, "SETNAME", self._name)
                self._accept(hello, "user or password")
        except TimeoutError:
            if link is not None:
                link.abort()
            raise BrokerAway(f"Redis at {host} does not answer") from None
        except ssl.SSLError as error:
            raise self._url.wrong(f"TLS with {host}: {error.reason or 'failed'}") from error
        except OSError as error:
            raise BrokerAway(f"Redis at {host}: {error.strerror or type(error).__name__}") from error
        except BrokerAway as error:
            raise BrokerAway(f"Redis at {host}: {error.message}") from error
        except BaseException:
            if link is not None:
                link.abort()
            raise
        if not isinstance(hello, dict):
            link.abort()
            raise self._url.wrong(f"{host} is no Redis")
        return link, hello

    async def _dial(
        self, host: Host, on_push: Callable[[list[Reply]], None], on_lost: Callable[[Link, str], None]
    ) -> Link:
        loop = asyncio.get_running_loop()
        link = Link(on_push, lambda reason: on_lost(link, reason))
        name = host.name if self._context is not None else None
        await loop.create_connection(lambda: link, host.name, host.port, ssl=self._context, server_hostname=name)
        return link

    def _accept(self, answer: Reply, what: str) -> None:
        if not isinstance(answer, hiredis.ReplyError):
            return
        text = str(answer)
        word = text.partition(" ")[0]
        if word in LOGIN_ERRORS:
            raise self._url.wrong("Redis refuses user or password")
        if "DB index is out of range" in text or "SELECT is not allowed" in text:
            raise self._url.wrong(f"Redis has no database {self._url.database}")
        if "unknown command" in text or word == "NOPROTO":
            raise self._url.wrong("this Redis is too old: 7.0 or newer is needed")
        if "AUTH" in text:
            raise self._url.wrong("Redis has no password for this user: take it out of the URL")
        raise BrokerAway(f"{what}: {error_of(text).message}")

    def _check(self, server: Server) -> None:
        if server.version < _OLDEST:
            shown = ".".join(map(str, server.version))
            raise self._url.wrong(f"Redis {shown} at {server.address} is too old: 7.0 or newer is needed")
        if server.mode == "sentinel":
            raise self._url.wrong(f"{server.address} is a Sentinel: add `?master=` and the name it knows")
        if server.mode == "cluster" and self._url.database:
            raise self._url.wrong("a Redis Cluster has database 0 only")


def _server(host: Host, hello: dict[bytes, Reply]) -> Server:
    version = tuple(int(part) for part in hello.get(b"version", b"0").decode().split(".") if part.isdigit())
    return Server(str(host), hello.get(b"mode", b"standalone").decode(), version)
