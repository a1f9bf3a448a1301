"""The bus inside one process: of a node alone, or of several nodes on one `LocalExchange`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from smart_router.bus.base import BusStatistics, Listener
from smart_router.bus.topics import Topics
from smart_router.errors import StorageError

__all__ = ["LocalBus", "LocalExchange", "from_url"]


def from_url(url: str, node: str) -> LocalBus:
    """Of an `embedded://` broker: there are no other nodes."""
    return LocalBus(node)


class LocalExchange:
    """What connects the nodes of one process. `trouble` and `between` are where a network would fail."""

    def __init__(self) -> None:
        self._buses: dict[str, LocalBus] = {}

    def join(self, bus: LocalBus) -> None:
        if bus.node in self._buses:
            raise StorageError(f"There is a node {bus.node} on this bus already: each needs an id of its own.")
        self._buses[bus.node] = bus

    def leave(self, bus: LocalBus) -> None:
        if self._buses.get(bus.node) is bus:
            del self._buses[bus.node]

    def trouble(self, node: str) -> str:
        """Why this node cannot publish."""
        return ""

    def others(self, node: str) -> Iterable[LocalBus]:
        """Those that hear this node."""
        return [bus for bus in self._buses.values() if bus.node != node]

    def one(self, node: str, other: str) -> LocalBus | None:
        """The other, if it hears this node."""
        return self._buses.get(other) if other != node else None


class LocalBus:
    """See Bus. What is published in one turn of the event loop is heard in the next."""

    def __init__(self, node: str, exchange: LocalExchange | None = None) -> None:
        self.node = node
        self.on_up: Callable[[], None] = lambda: None
        self._exchange = exchange or LocalExchange()
        self._topics = Topics()
        self._inbox: deque[tuple[str, str, bytes]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        self._exchange.join(self)
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Those that were told are other nodes' inboxes by now."""
        self._exchange.leave(self)
        self._loop = None
        self._inbox.clear()

    def listen(self, topic: str, listener: Listener) -> None:
        self._topics.listen(topic, listener)

    def publish(self, topic: str, data: bytes) -> None:
        if self._may_publish(topic, data):
            for bus in self._exchange.others(self.node):
                bus.put(self.node, topic, data)

    def send(self, node: str, topic: str, data: bytes) -> None:
        if self._may_publish(topic, data):
            bus = self._exchange.one(self.node, node)
            if bus is not None:
                bus.put(self.node, topic, data)

    def put(self, node: str, topic: str, data: bytes) -> None:
        """From another node of this exchange."""
        if self._loop is None:
            return
        if not self._inbox:
            self._loop.call_soon(self._deliver)
        self._inbox.append((node, topic, bytes(data)))

    def _deliver(self) -> None:
        """What came up to now; what that makes others say comes in the next turn."""
        inbox, self._inbox = self._inbox, deque()
        for node, topic, data in inbox:
            if self._loop is None:
                return
            self._topics.hear(node, topic, data)

    def _may_publish(self, topic: str, data: bytes) -> bool:
        self._topics.check(topic, data)
        if self.trouble():
            self._topics.lost += 1
            return False
        self._topics.published += 1
        return True

    def trouble(self) -> str:
        if self._loop is None:
            return "the bus is not open"
        return self._exchange.trouble(self.node)

    def statistics(self) -> BusStatistics:
        return self._topics.statistics(self.trouble())
