"""The bus over Redis pub/sub: a channel for all nodes, and one for each.

It is there when this node has heard itself: after each (re)connect it publishes a probe on its own channel until it
comes back. Only then are the subscriptions known to stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from smart_router.bus.base import BusStatistics, Listener
from smart_router.bus.topics import Topics
from smart_router.errors import BrokerAway, StorageError
from smart_router.redis.base import Reply
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl

__all__ = ["RedisBus", "from_url"]

_TAG: Final = "bus"
"""All is published through one server of a Cluster, so that the order holds; it carries it to the others."""

_FORM: Final = b"1"
_PROBE_EVERY: Final = 0.05
_FAREWELL: Final = 2.0


def from_url(url: str, node: str) -> RedisBus:
    """`url`: the broker's. Raises ConfigError."""
    return RedisBus(RedisUrl(url), node)


class RedisBus:
    """See Bus. Channels begin with the URL's prefix and carry its database's number: pub/sub knows no databases.

    A publication is `1`, the publishing node, the topic (empty: a probe) and the data, with a space after each.
    """

    def __init__(self, url: RedisUrl, node: str) -> None:
        if not node or " " in node:
            raise ValueError("a node's id has no space")
        self.node = node
        self.on_up: Callable[[], None] = lambda: None
        self._url = url
        self._redis = Redis(url, name=f"bus-{node}", on_up=self._probe, on_resubscribed=self._probe)
        self._topics = Topics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._for_all = self._redis.channel(f"bus/{url.database}")
        self._probes = 0
        self._hears = False
        self._opening: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refused = ""

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._opening = self._loop.create_future()
        self._redis.subscribe(self._for_all, self._heard)
        self._redis.subscribe(self._channel(self.node), self._heard)
        try:
            await self._redis.open()
            async with asyncio.timeout(self._url.timeout):
                await self._opening
        except BaseException as error:
            await self._stop()
            if isinstance(error, TimeoutError):
                raise self._deaf() from error
            raise
        finally:
            self._opening = None

    def _deaf(self) -> StorageError:
        if self._refused:
            return StorageError(f"{self._url.setting}: {self._refused} (channels too: `ACL SETUSER … allchannels`)")
        return BrokerAway(f"{self._url.setting}: Redis does not carry what this node publishes back to it")

    async def close(self) -> None:
        if self._loop is None:
            return
        if self._redis.up:
            await self._farewell()
        await self._stop()

    async def _farewell(self) -> None:
        """Redis answers in the order of the commands: what was published is there when this one is answered."""
        assert self._loop is not None
        answered: asyncio.Future[None] = self._loop.create_future()
        self._redis.send(_TAG, ("PING",), lambda _: None if answered.done() else answered.set_result(None))
        await asyncio.wait([answered], timeout=_FAREWELL)

    async def _stop(self) -> None:
        self._loop = None
        self._hears = False
        if self._timer is not None:
            self._timer.cancel()
        await self._redis.close()

    def abort(self) -> None:
        """Ends without a goodbye, as a crash would."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self._redis.abort()

    def listen(self, topic: str, listener: Listener) -> None:
        self._topics.listen(topic, listener)

    def publish(self, topic: str, data: bytes) -> None:
        self._publish(self._for_all, topic, data)

    def send(self, node: str, topic: str, data: bytes) -> None:
        if node != self.node:
            self._publish(self._channel(node), topic, data)
        else:
            self._topics.check(topic, data)

    def _channel(self, node: str) -> bytes:
        return self._for_all + b"/" + node.encode()

    def _publish(self, channel: bytes, topic: str, data: bytes) -> None:
        self._topics.check(topic, data)
        if self._loop is None:
            self._topics.lost += 1
            return
        self._topics.published += 1
        self._redis.send(_TAG, ("PUBLISH", channel, self._head(topic) + data), self._published)

    def _head(self, topic: str) -> bytes:
        return b"%b %b %b " % (_FORM, self.node.encode(), topic.encode())

    def _published(self, answer: Reply) -> None:
        if isinstance(answer, StorageError):
            self._topics.published -= 1
            self._topics.lost += 1

    # What comes in

    def _heard(self, message: bytes) -> None:
        parts = message.split(b" ", 3)
        if self._loop is None:
            return
        if len(parts) != 4 or parts[0] != _FORM:
            self._topics.ignored += 1
            return
        _, node, topic, data = parts
        try:
            self._hear(node.decode(), topic.decode(), data)
        except UnicodeDecodeError:
            self._topics.ignored += 1

    def _hear(self, node: str, topic: str, data: bytes) -> None:
        if node != self.node:
            self._topics.hear(node, topic, data)
        elif not topic and data == b"%d" % self._probes and not self._hears:
            self._stands()

    # Whether it is heard

    def _probe(self) -> None:
        """The connection or the subscriptions are new: until a probe comes back this node may miss things."""
        self._hears = False
        self._probes += 1
        if self._timer is not None:
            self._timer.cancel()
        self._probe_again(self._probes)

    def _probe_again(self, number: int) -> None:
        if self._loop is None or self._hears or number != self._probes:
            return
        if self._redis.up:
            message = self._head("") + b"%d" % number
            self._redis.send(_TAG, ("PUBLISH", self._channel(self.node), message), self._probed)
        self._timer = self._loop.call_later(_PROBE_EVERY, partial(self._probe_again, number))

    def _probed(self, answer: Reply) -> None:
        self._refused = answer.message if isinstance(answer, StorageError) else ""

    def _stands(self) -> None:
        self._hears = True
        if self._opening is None:
            assert self._loop is not None
            self._loop.call_soon(self.on_up)
        elif not self._opening.done():
            self._opening.set_result(None)

    def trouble(self) -> str:
        if self._loop is None:
            return "the bus is not open"
        if self._hears or not self._redis.up:
            return self._redis.trouble()
        return f"Redis does not carry the bus now: {self._refused or 'waiting for its channels'}"

    def statistics(self) -> BusStatistics:
        return self._topics.statistics(self.trouble())
