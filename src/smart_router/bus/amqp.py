"""The bus over RabbitMQ: one exchange, and on each node a queue of its connection's own.

    publish ─► exchange prefix#bus ─(key `all`)──────► queue of each node ─► listener
    send ────►                     ─(key `node/…`)──► queue of that node

The queue is exclusive and goes with its connection, which the heartbeats end when the node is stuck: so it never grows
for long. All publications of a node take one channel, and each node hears them from one consumer: that keeps the order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from random import SystemRandom
from typing import Final

from smart_router.amqp import AmqpConnection, AmqpUrl, Channel, Properties, encode_properties
from smart_router.bus.base import MAX_DATA, BusStatistics, Listener
from smart_router.bus.topics import Topics
from smart_router.errors import StorageError

__all__ = ["BACKLOG", "AmqpBus", "from_url"]

BACKLOG: Final = 32 * MAX_DATA
"""Bytes that wait here while RabbitMQ takes them more slowly than they come; what is more is lost."""

_QUEUE_LIMIT: Final = 256 * MAX_DATA
"""Bytes of a stuck node's queue until its connection is ended; then the oldest go."""

_FORM: Final = b"1"
_ALL: Final = b"all"
_TRANSIENT: Final = encode_properties(Properties(delivery_mode=1))
_FAREWELL: Final = 2.0
_LONGEST_NODE: Final = 128
"""Bytes: a routing key and a queue's name have 255."""


def from_url(url: str, node: str, prefix: str) -> AmqpBus:
    """`url` and `prefix`: the broker's. Raises ConfigError."""
    return AmqpBus(AmqpUrl(url), node, prefix)


class AmqpBus:
    """See Bus. A publication is `1`, the publishing node, the topic and the data, with a space after each.

    It counts as published when RabbitMQ has it (publisher confirms), and as lost if the connection went before.
    """

    def __init__(self, url: AmqpUrl, node: str, prefix: str = "smart-router") -> None:
        """`prefix`: of the exchange's and the queue's name; buses with different ones do not hear each other."""
        if not node or " " in node or len(node.encode()) > _LONGEST_NODE:
            raise ValueError("a node's id has no space, and at most 128 bytes")
        self.node = node
        self.on_up: Callable[[], None] = lambda: None
        self._exchange = f"{prefix}#bus"
        self._connection = AmqpConnection(
            url,
            f"{node} bus",
            SystemRandom(),
            on_up=self._stand_up,
            on_down=lambda reason: None,
            on_writable=self._note_writable,
        )
        self._channel: Channel = self._connection.channel(
            on_closed=self._note_closed, on_confirm=self._note_confirm, on_cancel=self._note_cancel
        )
        self._topics = Topics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unconfirmed: dict[int, None] = {}
        self._backlog: deque[tuple[bytes, bytes]] = deque()
        self._backlog_size = 0
        self._missed = False
        self._settled = asyncio.Event()

    async def open(self) -> None:
        await self._connection.open()
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        if self._loop is None:
            return
        self._loop = None
        try:
            async with asyncio.timeout(_FAREWELL):
                while not self._is_settled():
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            self._lose_all()
        await self._connection.close()

    def _is_settled(self) -> bool:
        return not self._connection.up or not (self._unconfirmed or self._backlog)

    def listen(self, topic: str, listener: Listener) -> None:
        self._topics.listen(topic, listener)

    # -- out

    def publish(self, topic: str, data: bytes) -> None:
        self._put(_ALL, topic, data)

    def send(self, node: str, topic: str, data: bytes) -> None:
        name = node.encode()
        if node != self.node and len(name) <= _LONGEST_NODE:
            self._put(b"node/" + name, topic, data)
        else:
            self._topics.check(topic, data)  # there is no such other node

    def _put(self, key: bytes, topic: str, data: bytes) -> None:
        self._topics.check(topic, data)
        if self.trouble() or self._backlog_size > BACKLOG:
            self._topics.lost += 1
            self._missed = True
            return
        self._topics.published += 1
        message = b"%b %b %b %b" % (_FORM, self.node.encode(), topic.encode(), data)
        if self._backlog or not self._connection.writable:
            self._backlog.append((key, message))
            self._backlog_size += len(message)
        else:
            self._publish(key, message)

    def _publish(self, key: bytes, message: bytes) -> None:
        number = self._channel.publish(self._exchange.encode(), key, _TRANSIENT, message)
        self._unconfirmed[number] = None

    def _note_writable(self) -> None:
        while self._backlog and self._connection.writable and self._channel.is_open:
            key, message = self._backlog.popleft()
            self._backlog_size -= len(message)
            self._publish(key, message)
        if self._missed and not self._backlog and not self.trouble():
            self._tell_up()

    def _note_confirm(self, number: int, multiple: bool, ok: bool) -> None:
        if multiple:
            for earlier in [one for one in self._unconfirmed if one <= number]:
                del self._unconfirmed[earlier]
        else:
            self._unconfirmed.pop(number, None)
        self._settled.set()

    def _lose_all(self) -> None:
        """Whether RabbitMQ had it, nobody knows."""
        lost = len(self._unconfirmed) + len(self._backlog)
        self._topics.published -= lost
        self._topics.lost += lost
        self._unconfirmed.clear()
        self._backlog.clear()
        self._backlog_size = 0
        self._settled.set()

    # -- in

    def _hear(self, tag: int, again: bool, exchange: bytes, key: bytes, properties: bytes, message: bytes) -> None:
        parts = message.split(b" ", 3)
        if self._loop is None:
            return
        if len(parts) != 4 or parts[0] != _FORM:
            self._topics.ignored += 1
            return
        try:
            node, topic = parts[1].decode(), parts[2].decode()
        except UnicodeDecodeError:
            self._topics.ignored += 1
            return
        if node != self.node:
            self._topics.hear(node, topic, parts[3])

    # -- outages

    async def _stand_up(self) -> None:
        """Nothing that is told from here on is missed."""
        channel = self._channel
        queue = f"{self._exchange}/{self.node}/{secrets.token_hex(4)}"
        await channel.open()
        await channel.confirm_select()
        await channel.declare_exchange(self._exchange, "direct", durable=True)
        await channel.declare_queue(queue, exclusive=True, arguments={"x-max-length-bytes": _QUEUE_LIMIT})
        await channel.bind(queue, self._exchange, _ALL.decode())
        await channel.bind(queue, self._exchange, f"node/{self.node}")
        await channel.consume(queue, self._hear, no_ack=True)
        if self._loop is not None:
            self._loop.call_soon(self._tell_up)

    def _tell_up(self) -> None:
        self._missed = False
        if self._loop is not None:
            self.on_up()

    def _note_closed(self, error: StorageError) -> None:
        """If the connection still stands, the channel has no consumer and no use any more: all anew."""
        self._lose_all()
        self._connection.drop(error.message)

    def _note_cancel(self, consumer_tag: str) -> None:
        self._connection.drop("RabbitMQ has deleted this node's queue")

    def trouble(self) -> str:
        if self._loop is None:
            return "the bus is not open"
        return self._connection.trouble() or ("" if self._channel.is_open else "RabbitMQ has closed the channel")

    def statistics(self) -> BusStatistics:
        return self._topics.statistics(self.trouble())
