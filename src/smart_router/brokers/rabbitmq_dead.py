"""What RabbitMQ took out of a mailbox, and what we put aside: one queue, emptied by every node.

mailbox ─(expired, maxlen, delivery_limit)─► prefix#dead ─► on_end ─(remembered)─► ack
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from smart_router.brokers.base import End, Entry, MailboxPolicy
from smart_router.brokers.rabbitmq_channels import Feed, Feeds, Slot
from smart_router.brokers.rabbitmq_mailbox import Box
from smart_router.brokers.rabbitmq_names import Names
from smart_router.brokers.rabbitmq_tap import foreign
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.brokers.rabbitmq_wire import Arrival, death_of, decode
from smart_router.errors import BrokerAway

__all__ = ["DeadLetters", "DeadLettersHost"]

_PREFETCH: Final = 200
_ENDS: Final = {
    "expired": (End.EXPIRED, "ttl"),
    "maxlen": (End.DROPPED, "overflow"),
    "delivery_limit": (End.FAILED, "deliveries"),
}
_OTHER: Final = (End.FAILED, "rejected")
_UNKNOWN: Final = MailboxPolicy()
_ENDED: Final = frozenset(End)


class DeadLettersHost(Protocol):
    boxes: dict[str, Box]
    feeds: Feeds
    names: Names
    topology: Topology
    order: itertools.count[int]

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...

    def wall_ms(self) -> int: ...

    def end(self, entry: Entry, end: End, reason: str) -> None: ...

    def token_died(self, slot: Slot, address: str, priority: int) -> None:
        """A lane's token expired, or was in the way."""


class DeadLetters:
    """A consumer of the dead-letter queue (rabbitmq_channels.Taker)."""

    def __init__(self, host: DeadLettersHost) -> None:
        self._host = host
        self.feed: Feed | None = None
        self.tag = ""

    async def consume(self) -> None:
        if not self.tag:
            feed = await self._host.feeds.pick()
            await feed.consume(self, self._host.names.dead, _PREFETCH)

    def deliver(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        host, feed = self._host, self.feed
        assert feed is not None
        slot = feed.out[tag] = Slot(feed, tag, None, next(host.order))
        arrival = decode(properties, body)
        key = routing_key.decode("utf-8", "replace")
        if arrival is None:
            message = foreign(body, host.wall_ms())
            host.end(Entry(message, key.partition("#")[0], _UNKNOWN, slot=slot), End.FAILED, "foreign")
            return
        meta = arrival.meta
        address = meta.address or key.partition("#")[0]
        if meta.lane >= 0:
            host.token_died(slot, address, meta.lane)
            return
        box = host.boxes.get(address)
        policy = box.policy if box is not None else _UNKNOWN
        entry = Entry(arrival.message, address, policy, redelivered, slot=slot)
        host.end(entry, *_end_of(arrival, properties))

    def lost(self) -> None:
        """Its channel is gone, or its queue. Without a connection it begins again with the next one."""
        self.tag = ""
        self._host.spawn(self._again())

    async def _again(self) -> None:
        with suppress(BrokerAway):
            await self._host.topology.dead_letters()
            await self.consume()


def _end_of(arrival: Arrival, properties: bytes) -> tuple[End, str]:
    meta = arrival.meta
    if meta.end in _ENDED:
        return End(meta.end), meta.reason
    return _ENDS.get(death_of(properties), _OTHER)
