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
from typing import NamedTuple, Protocol

from smart_router.errors import StorageError

__all__ = [
    "Arguments",
    "Channel",
    "ChannelClosed",
    "Connection",
    "ConnectionStatistics",
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
    "Server",
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


class Server(NamedTuple):
    """Who answered. `version`: (3, 10, 8)."""

    product: str
    version: tuple[int, ...]
    cluster: str
    capabilities: frozenset[str]


class ConnectionStatistics(NamedTuple):
    up: bool
    reason: str  # trouble(), or ""
    channels: int
    outages: int
    published: int
    delivered: int
    acknowledged: int  # calls of ack, nack and reject
    confirmed: int  # confirm frames
    returned: int
    writes: int
    bytes_written: int
    bytes_read: int
    bytes_waiting: int  # written by us, not yet taken by the kernel


class Connection(Protocol):
    """One TCP or TLS connection to one of the URL's hosts, with a bounded number of channels.

    `AmqpConnection(url: AmqpUrl, name: str, random: Random, *, on_up: OnUp, on_down: OnDown, on_writable: OnWritable)`;
    `name` is shown in RabbitMQ's lists and in our log.

    `on_up()` is awaited whenever the connection stands, also the first time: open channels, declare, consume there. If
    it raises a StorageError the connection is given up and made again after the back-off. `on_down(reason)` follows the
    `on_closed` of every channel. `on_writable()` is called when `writable` becomes True again.
    """

    server: Server | None  # None: not yet connected

    async def open(self) -> None:
        """Connects, tries each host once, and runs `on_up`.

        ConfigError: login, virtual host, certificate or the other end (no RabbitMQ) is wrong: says which setting.
        BrokerAway: nobody answers.
        """

    async def close(self) -> None:
        """Writes what is waiting, says goodbye, and reconnects no more. `on_down` and `on_closed` are not called."""

    def trouble(self) -> str:
        """Why it cannot be used for publishing now: away since …, or the broker's alarm; "" when it can."""

    @property
    def up(self) -> bool:
        """The connection stands; `on_up` may still be running."""

    @property
    def writable(self) -> bool:
        """False: publishing would be refused: away, an alarm of the broker, or 1 MiB waits for the socket."""

    def channel(
        self,
        *,
        on_closed: OnClosed,
        on_confirm: OnConfirm | None = None,
        on_return: OnReturn | None = None,
        on_cancel: OnCancel | None = None,
    ) -> Channel:
        """A channel that is not open yet."""

    def statistics(self) -> ConnectionStatistics: ...


class Channel(Protocol):
    """One AMQP channel. What is called on it reaches the broker in that order.

    Awaitable calls raise ChannelClosed if the broker refuses (the channel is closed then; `open` opens it again) and
    BrokerAway if the connection goes or no answer comes in time. They may be made one after the other without waiting:
    the answers come in their order.
    """

    is_open: bool

    async def open(self) -> None:
        """Also again, after it was closed. No consumers, no confirms, prefetch without limit; StorageError: too many
        channels on this connection."""

    async def close(self) -> None:
        """What was not acknowledged goes back to its queues. Does nothing if it is closed."""

    def publish(
        self, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes, mandatory: bool = False
    ) -> int:
        """Its sequence number, from 1 after `confirm_select`. `properties`: from `encode_properties`.

        BrokerAway: the channel is closed. StorageError `busy`: not `writable`; nothing was written.
        Exchange and routing key have at most 255 bytes: ValueError.
        """

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """`multiple`: and all before it on this channel; 0 and multiple: all. Does nothing if the channel is closed.

        A tag that is not in flight makes the broker close the channel with 406.
        """

    def nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None: ...

    def reject(self, delivery_tag: int, requeue: bool = False) -> None: ...

    async def confirm_select(self) -> None:
        """Every `publish` from here on is confirmed; sequence numbers begin at 1."""

    async def qos(self, prefetch: int, *, whole_channel: bool = False) -> None:
        """At most so many unacknowledged for each consumer that begins after this; 0: no limit.

        `whole_channel`: for all consumers together (not with quorum queues).
        """

    async def consume(
        self,
        queue: str,
        on_deliver: OnDeliver,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Arguments | None = None,
    ) -> str:
        """The consumer tag. Deliveries may come before this returns."""

    async def cancel(self, consumer_tag: str) -> None:
        """No delivery comes after this; what it had in flight stays in flight."""

    async def get(self, queue: str, *, no_ack: bool = False) -> Message | None: ...

    async def declare_queue(
        self,
        name: str,
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> QueueState:
        """`name` "": the broker chooses one. `passive`: only asks; 404 if there is none."""

    async def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> None: ...

    async def bind(self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None) -> None: ...

    async def unbind(self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None) -> None: ...

    async def bind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None: ...

    async def unbind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None: ...

    async def purge(self, queue: str) -> int:
        """How many went; those in flight stay."""

    async def delete_queue(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many messages went with it; 0 also if there was none. 406: it is in use or not empty."""

    async def delete_exchange(self, exchange: str, *, if_unused: bool = False) -> None: ...
