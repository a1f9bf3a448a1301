"""What a channel asks the broker: queues, exchanges, bindings, consumers. Each call waits for its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from smart_router.amqp.base import Arguments, Message, OnDeliver, QueueState
from smart_router.errors import StorageError

__all__ = ["Calls"]


class Calls(ABC):
    """The part of Channel that does not care how an answer comes."""

    def __init__(self) -> None:
        self.consumers: dict[bytes, OnDeliver] = {}
        self._tags = 0

    @abstractmethod
    async def _call(self, name: str, **fields: Any) -> Any:
        """The answer: a Method, or the Message that basic.get took."""

    async def qos(self, prefetch: int, *, whole_channel: bool = False) -> None:
        """At most so many unacknowledged for each consumer that begins after this; 0: no limit.

        `whole_channel`: for all consumers together (not with quorum queues).
        """
        await self._call("basic.qos", count=prefetch, whole_channel=whole_channel)

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
        self._tags += 1
        tag = str(self._tags)
        self.consumers[tag.encode()] = on_deliver
        try:
            await self._call(
                "basic.consume", queue=queue, tag=tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}
            )
        except (ValueError, StorageError):
            self.consumers.pop(tag.encode(), None)
            raise
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        """No delivery comes after this; what the consumer has in flight stays in flight."""
        await self._call("basic.cancel", tag=consumer_tag)

    async def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        answer = await self._call("basic.get", queue=queue, no_ack=no_ack)
        return answer if isinstance(answer, Message) else None

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
        answer = await self._call(
            "queue.declare",
            queue=name,
            passive=passive,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments or {},
        )
        return QueueState(answer["queue"], answer["messages"], answer["consumers"])

    async def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        await self._call(
            "exchange.declare",
            exchange=name,
            kind=kind,
            passive=passive,
            durable=durable,
            auto_delete=auto_delete,
            arguments=arguments or {},
        )

    async def bind(self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None) -> None:
        """Twice is once."""
        await self._call(
            "queue.bind", queue=queue, exchange=exchange, routing_key=routing_key, arguments=arguments or {}
        )

    async def unbind(self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None) -> None:
        """What is not bound is no error."""
        await self._call(
            "queue.unbind", queue=queue, exchange=exchange, routing_key=routing_key, arguments=arguments or {}
        )

    async def bind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        await self._call(
            "exchange.bind",
            destination=destination,
            source=source,
            routing_key=routing_key,
            arguments=arguments or {},
        )

    async def unbind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        await self._call(
            "exchange.unbind",
            destination=destination,
            source=source,
            routing_key=routing_key,
            arguments=arguments or {},
        )

    async def purge(self, queue: str) -> int:
        """How many went; those in flight stay."""
        return int((await self._call("queue.purge", queue=queue))["messages"])

    async def delete_queue(self, queue: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """How many messages went with it; 0 also if there was none. 406: it is in use or not empty."""
        answer = await self._call("queue.delete", queue=queue, if_unused=if_unused, if_empty=if_empty)
        return int(answer["messages"])

    async def delete_exchange(self, exchange: str, *, if_unused: bool = False) -> None:
        await self._call("exchange.delete", exchange=exchange, if_unused=if_unused)
