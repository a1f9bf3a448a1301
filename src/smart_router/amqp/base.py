"""What a user of an AMQP connection sees: its channels, what it is told, what it may call.

    AmqpConnection(url, name, random, on_up=…, on_down=…, on_writable=…)
      └─ open() ─► on_up() ── channel(…).open() ── consume, declare …         reconnects by itself: on_down, …, on_up
                                   │
        publish, ack, nack, reject ┴─► one write per event loop turn      deliveries, confirms, returns ─► callbacks

Nothing here costs a future or a task per message: `publish`, `ack`, `nack` and `reject` only add to the turn's write;
deliveries, confirms and returns are plain calls from inside the read, in the order in which the broker sent them.
RabbitMQ stops reading from a connection that publishes while one of its alarms is on; acknowledgements on the same
connection would wait too: publish on one connection, consume on another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from smart_router.errors import StorageError

__all__ = [
    "Arguments",
    "ChannelClosed",
    "ConnectionStatistics",
    "Counters",
    "Field",
    "Message",
    "OnCancel",
    "OnClosed",
    "OnConfirm",
    "OnDeliver",
    "OnDown",
    "OnReturn",
    "OnUp",
    "OnWritable",
    "QueueState",
]

Field = object
"""A value in an AMQP table: None, bool, int, float, str, bytes, Decimal, datetime, list or dict of such."""

Arguments = Mapping[str, Field]

OnDeliver = Callable[[int, bool, bytes, bytes, bytes, bytes], None]
"""(delivery tag, redelivered, exchange, routing key, properties, body); properties: `decode_properties` reads them."""

OnConfirm = Callable[[int, bool, bool], None]
"""(sequence number, multiple: and all before it, ok: False when the broker could not take it)."""

OnReturn = Callable[[int, str, bytes, bytes, bytes, bytes], None]
"""(reply code, reply text, exchange, routing key, properties, body); its confirm comes after it."""

OnCancel = Callable[[str], None]
"""(consumer tag): the broker ended this consumer, because its queue went or moved."""

OnClosed = Callable[[StorageError], None]
"""The channel is closed, not by us: ChannelClosed, or BrokerAway with the connection. Delivery tags and sequence
numbers of before mean nothing now; what was not confirmed may or may not have arrived."""


OnUp = Callable[[], Awaitable[None]]
OnDown = Callable[[str], None]
OnWritable = Callable[[], None]


class ChannelClosed(StorageError):
    """The broker closed the channel over a call. `reply_code`: 403 refused, 404 not found, 405 locked, 406 failed
    precondition (other arguments, unknown delivery tag), …; `reply_text`: the broker's own words.
    """

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__(f"RabbitMQ refused it ({reply_code}): {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class QueueState(NamedTuple):
    name: str
    messages: int  # ready ones, not those in flight
    consumers: int


class Message(NamedTuple):
    """What `get` took."""

    delivery_tag: int
    redelivered: bool
    exchange: bytes
    routing_key: bytes
    properties: bytes
    body: bytes
    messages: int  # that are left


class ConnectionStatistics(NamedTuple):
    up: bool
    reason: str  # trouble(), or ""
    channels: int
    outages: int
    published: int
    confirmed: int  # confirm frames: one may stand for many messages
    returned: int
    writes: int
    bytes_written: int
    bytes_read: int
    bytes_waiting: int  # written by us, not yet taken by the kernel


class Counters:
    """The counters of ConnectionStatistics, written where things happen, for all connections one after the other."""

    __slots__ = ("bytes_read", "bytes_written", "confirmed", "outages", "published", "returned", "writes")

    def __init__(self) -> None:
        self.outages = 0
        self.published = 0
        self.confirmed = 0
        self.returned = 0
        self.writes = 0
        self.bytes_written = 0
        self.bytes_read = 0
