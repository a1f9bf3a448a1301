"""Ways to a real RabbitMQ that can be cut, each with a proxy of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from faults.proxy import Proxy
from smart_router.amqp import AmqpUrl

__all__ = ["AmqpWays"]

_NOWHERE = ("127.0.0.1", 1)


class AmqpWays:
    """`take` the URL of a way that nobody has yet; `cut` and `heal` it."""

    def __init__(self, url: str, proxies: list[Proxy]) -> None:
        self._parts = urlsplit(url)
        self._free = proxies
        self._taken: dict[object, Proxy] = {}

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, count: int = 8) -> AsyncIterator[AmqpWays]:
        async with AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(_target(url))) for _ in range(count)]
            yield cls(url, proxies)

    def take(self) -> tuple[AmqpUrl, Proxy]:
        proxy = self._free.pop()
        return self._url(proxy.port), proxy

    def give(self, user: object, proxy: Proxy) -> None:
        """`user` goes this way."""
        self._taken[user] = proxy

    def _url(self, port: int) -> AmqpUrl:
        login = self._parts.netloc.rpartition("@")[0]
        return AmqpUrl(f"amqp://{login}@127.0.0.1:{port}{self._parts.path}?connection_timeout=2000")

    def cut(self, user: object) -> None:
        proxy = self._taken[user]
        proxy.target = _NOWHERE
        for connection in list(proxy.connections):
            connection.reset()

    def heal(self, user: object) -> None:
        self._taken[user].target = _target(self._parts.geturl())


def _target(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or 5672
