"""A place of the RabbitMQ provider for the contract suite: a prefix of its own in a virtual host of the tests."""

import random
from urllib.parse import urlsplit

import structlog

from faults.proxy import Connection, Proxy
from smart_router.amqp import AmqpConnection, AmqpUrl
from smart_router.brokers.base import Broker, OnEnd
from smart_router.brokers.rabbitmq import RabbitBroker, RabbitOptions
from tests.contracts.broker import FakeClock, until
from tests.services import unique

__all__ = ["RabbitPlace", "amqp_connection"]

NOWHERE = ("127.0.0.1", 1)


async def amqp_connection(url: str) -> AmqpConnection:
    """Somebody else's, open."""

    async def up() -> None: ...

    connection = AmqpConnection(AmqpUrl(url), "test", random.Random(), on_up=up, on_down=lambda reason: None)
    await connection.open()
    return connection


class RabbitPlace:
    """Each broker reaches RabbitMQ through a proxy of its own, which can cut it off."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.options = RabbitOptions(prefix=unique("t"))
        self.on_end: OnEnd | None = None
        self.url = url
        self._parts = urlsplit(url)
        assert self._parts.hostname is not None
        self.target = (self._parts.hostname, self._parts.port or 5672)
        self.proxies: dict[Broker, Proxy] = {}
        self.connections: dict[Broker, list[Connection]] = {}
        self._brokers: list[RabbitBroker] = []

    async def open(self) -> Broker:
        connections: list[Connection] = []
        proxy = Proxy(self.target, connections.append)
        await proxy.__aenter__()
        login = self._parts.netloc.rpartition("@")[0]
        url = f"amqp://{login}@127.0.0.1:{proxy.port}{self._parts.path}"
        nowhere = structlog.wrap_logger(structlog.ReturnLogger())
        broker = RabbitBroker(url, self.clock, options=self.options, on_end=self.on_end, log=nowhere)
        self.proxies[broker] = proxy
        self.connections[broker] = connections
        self._brokers.append(broker)
        await broker.open()
        return broker

    async def crash(self, broker: Broker) -> None:
        """The connections end in the middle of everything, and nothing comes back."""
        proxy = self.proxies.pop(broker)
        proxy.target = NOWHERE
        await proxy.__aexit__()
        await broker.close()

    async def close(self) -> None:
        """Leaves nothing: RabbitMQ has a file open for each quorum queue."""
        for proxy in self.proxies.values():
            await proxy.__aexit__()
        connection = await amqp_connection(self.url)
        channel = connection.channel(on_closed=lambda error: None)
        await channel.open()
        boxes = [box for broker in self._brokers for box in broker.boxes.values()]
        lanes = [lane for box in boxes for lane in box.lanes.values()]
        dead = self._brokers[0].names.dead
        for queue in {dead, *(lane.queue for lane in lanes)}:
            await channel.delete_queue(queue)
        for exchange in {dead, *(lane.exchange.decode() for lane in lanes)}:
            await channel.delete_exchange(exchange)
        await connection.close()

    def advance(self, broker: Broker, seconds: float) -> None:
        assert isinstance(broker, RabbitBroker)
        assert broker.deadlines is not None
        broker.deadlines.run(self.clock.now)

    async def take_storage_away(self, broker: Broker) -> None:
        """The connection that publishes is cut, and cannot be made again; the one that consumes goes on."""
        proxy = self.proxies[broker]
        proxy.target = NOWHERE
        self.connections[broker][1].cut()
        await until(lambda: bool(broker.trouble()))

    def give_storage_back(self, broker: Broker) -> None:
        self.proxies[broker].target = self.target
