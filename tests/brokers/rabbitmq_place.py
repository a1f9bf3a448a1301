"""A place of the RabbitMQ provider for the contract suite: a prefix of its own in a virtual host of the tests."""

from urllib.parse import urlsplit

import structlog

from faults.proxy import Connection, Proxy
from smart_router.brokers.base import Broker
from smart_router.brokers.rabbitmq import RabbitBroker, RabbitOptions
from tests.contracts.broker import FakeClock, until
from tests.services import unique

__all__ = ["RabbitPlace"]

NOWHERE = ("127.0.0.1", 1)


class RabbitPlace:
    """Each broker reaches RabbitMQ through a proxy of its own, which can cut it off."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self.options = RabbitOptions(prefix=unique("t"))
        self._url = urlsplit(url)
        assert self._url.hostname is not None
        self.target = (self._url.hostname, self._url.port or 5672)
        self.proxies: dict[Broker, Proxy] = {}
        self.connections: dict[Broker, list[Connection]] = {}

    async def open(self) -> Broker:
        connections: list[Connection] = []
        proxy = Proxy(self.target, connections.append)
        await proxy.__aenter__()
        login = self._url.netloc.rpartition("@")[0]
        url = f"amqp://{login}@127.0.0.1:{proxy.port}{self._url.path}"
        nowhere = structlog.wrap_logger(structlog.ReturnLogger())
        broker = RabbitBroker(url, self.clock, options=self.options, log=nowhere)
        self.proxies[broker] = proxy
        self.connections[broker] = connections
        await broker.open()
        return broker

    async def crash(self, broker: Broker) -> None:
        """The connections end in the middle of everything, and nothing comes back."""
        proxy = self.proxies.pop(broker)
        proxy.target = NOWHERE
        await proxy.__aexit__()
        await broker.close()

    async def close(self) -> None:
        for proxy in self.proxies.values():
            await proxy.__aexit__()

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
