"""Ways to a real Redis that can be cut, each with a proxy of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from faults.proxy import Proxy
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl

__all__ = ["StraightWays", "Ways"]

NOWHERE = ("127.0.0.1", 1)


class Ways:
    """`take` the URL of a way that nobody has yet; `cut` and `heal` it."""

    def __init__(self, url: str, prefix: str, proxies: list[Proxy]) -> None:
        self._parts = urlsplit(url)
        self._prefix = prefix
        self._free = proxies
        self._taken: dict[object, Proxy] = {}

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, prefix: str, count: int = 8) -> AsyncIterator[Ways]:
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(_target(url))) for _ in range(count)]
            yield cls(url, prefix, proxies)

    def take(self, installation: str = "") -> tuple[RedisUrl, Proxy]:
        proxy = self._free.pop()
        return self.url(installation, proxy.port), proxy

    def give(self, user: object, proxy: Proxy | None) -> None:
        """`user` goes this way."""
        assert proxy is not None
        self._taken[user] = proxy

    def url(self, installation: str = "", port: int | None = None) -> RedisUrl:
        """Without `port`: straight to the server."""
        login = self._parts.netloc.rpartition("@")[0]
        host = f"127.0.0.1:{port}" if port is not None else self._parts.netloc.rpartition("@")[2]
        place = f"{login}@{host}" if login else host
        return RedisUrl(f"redis://{place}{self._parts.path}?prefix={self._prefix}{installation}:&timeout=2")

    def cut(self, user: object) -> None:
        proxy = self._taken[user]
        proxy.target = NOWHERE
        for connection in list(proxy.connections):
            connection.reset()

    def heal(self, user: object) -> None:
        self._taken[user].target = _target(self._parts.geturl())

    def straight(self, installation: str = "") -> AbstractAsyncContextManager[Redis]:
        """A connection of a stranger."""
        return connected(self.url(installation))


class StraightWays:
    """The same without proxies, to a Cluster: it tells its clients its own addresses."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = prefix

    def take(self, installation: str = "") -> tuple[RedisUrl, None]:
        return RedisUrl(f"{self._url}?prefix={self._prefix}{installation}:&timeout=2"), None

    def give(self, user: object, proxy: Proxy | None) -> None:
        """There is no proxy."""

    def cut(self, user: object) -> None:
        pytest.skip("one node is not cut off from a whole Cluster here")

    def heal(self, user: object) -> None:
        raise NotImplementedError

    def straight(self, installation: str = "") -> AbstractAsyncContextManager[Redis]:
        return connected(self.take(installation)[0])


@asynccontextmanager
async def connected(url: RedisUrl) -> AsyncIterator[Redis]:
    redis = Redis(url, name="stranger")
    await redis.open()
    try:
        yield redis
    finally:
        await redis.close()


def _target(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or 6379
