"""Exchanges and queues: made, asked, deleted.

exchange (direct, durable) per (sub-)endpoint ─routing key─► queue per lane of a mailbox ─dead─► one dead-letter queue
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from smart_router.amqp import AmqpConnection, Arguments, Channel, ChannelClosed, QueueState
from smart_router.brokers.base import MailboxPolicy, Overflow
from smart_router.brokers.rabbitmq_mailbox import Lane
from smart_router.brokers.rabbitmq_names import Names
from smart_router.errors import StorageError

__all__ = ["Topology", "arguments_of"]

DELIVERY_LIMIT: Final = 1000
"""Of every quorum queue: with a limit, what comes back stands first; without, last (RabbitMQ 3.10; 4.x: 20)."""

DEAD_LETTERS: Final = 100_000
_NOT_FOUND, _PRECONDITION = 404, 406
_CHANNELS: Final = 4


def arguments_of(policy: MailboxPolicy, names: Names) -> Arguments:
    """No x-expires: it deletes waiting messages without a trace."""
    arguments: dict[str, object] = {"x-dead-letter-exchange": names.dead}
    if policy.durable:
        arguments |= {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    else:
        arguments["x-queue-type"] = "classic"
    if policy.exclusive:
        arguments["x-single-active-consumer"] = True
    if policy.overflow is Overflow.DROP_OLDEST:
        if policy.max_messages:
            arguments["x-max-length"] = policy.max_messages
        if policy.max_bytes:
            arguments["x-max-length-bytes"] = policy.max_bytes
    return arguments


class Topology:
    """On channels of its own, one call at a time on each: a call that RabbitMQ refuses costs its channel."""

    def __init__(self, connection: AmqpConnection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._free: list[Channel] = []
        self._exchanges: set[bytes] = set()

    def forget(self) -> None:
        """After an outage: what was there may not be."""
        self._exchanges.clear()

    def has_exchange(self, name: bytes) -> bool:
        return name in self._exchanges

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        channel = self._free.pop() if self._free else self._connection.channel(on_closed=lambda error: None)
        if not channel.is_open:
            await channel.open()
        try:
            yield channel
        finally:
            if len(self._free) < _CHANNELS:
                self._free.append(channel)
            else:
                await channel.close()

    async def exchange(self, name: bytes) -> None:
        if name in self._exchanges:
            return
        async with self._channel() as channel:
            await channel.declare_exchange(name.decode(), "direct", durable=True)
        self._exchanges.add(name)

    async def declare(self, lane: Lane) -> QueueState:
        """The lane's queue with its exchange and binding, made if missing. StorageError: it has other arguments."""
        await self.exchange(lane.exchange)
        policy = lane.box.policy
        try:
            async with self._channel() as channel:
                state = await channel.declare_queue(
                    lane.queue, durable=True, arguments=arguments_of(policy, self._names)
                )
                await channel.bind(lane.queue, lane.exchange.decode(), lane.key.decode())
        except ChannelClosed as error:
            if error.reply_code != _PRECONDITION:
                raise
            endpoint = lane.box.address.partition("/")[0]
            raise StorageError(
                f"the mailbox {lane.box.address} is in RabbitMQ with other settings than [endpoints.{endpoint}] "
                "has now (durability, max_messages, max_bytes, overflow): set them back, or delete the queue "
                f"{lane.queue!r} when it is empty. {error.message}"
            ) from error
        return state

    async def state(self, queue: str) -> QueueState | None:
        """None: there is no such queue."""
        try:
            async with self._channel() as channel:
                return await channel.declare_queue(queue, passive=True)
        except ChannelClosed as error:
            if error.reply_code != _NOT_FOUND:
                raise
            return None

    async def unbind(self, lane: Lane) -> None:
        async with self._channel() as channel:
            await channel.unbind(lane.queue, lane.exchange.decode(), lane.key.decode())

    async def bind(self, lane: Lane) -> None:
        async with self._channel() as channel:
            await channel.bind(lane.queue, lane.exchange.decode(), lane.key.decode())

    async def delete(self, queue: str) -> int:
        """How many messages went with it."""
        async with self._channel() as channel:
            return await channel.delete_queue(queue)

    async def dead_letters(self) -> None:
        """The installation's dead-letter exchange and queue."""
        name = self._names.dead
        arguments: Arguments = {
            "x-queue-type": "quorum",
            "x-max-length": DEAD_LETTERS,
            "x-delivery-limit": DELIVERY_LIMIT,
        }
        async with self._channel() as channel:
            await channel.declare_exchange(name, "fanout", durable=True)
            await channel.declare_queue(name, durable=True, arguments=arguments)
            await channel.bind(name, name, "")
        self._exchanges.add(name.encode())
