"""A Redis of the tests' own, as the place of brokers for the contract suite."""

import asyncio
import shutil
from collections.abc import Sequence

import pytest
import structlog

from smart_router.brokers.base import Broker
from smart_router.brokers.redis import RedisBroker, RedisOptions
from smart_router.redis.url import RedisUrl
from tests.clusters.redis import OwnRedis
from tests.contracts.broker import FakeClock
from tests.services import unique

__all__ = ["LEASE", "RedisPlace", "skip_without_redis"]

LEASE = 0.3


def skip_without_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")


class RedisPlace:
    """Each test has keys of its own; brokers are nodes of one installation."""

    def __init__(self, url: str, servers: Sequence[OwnRedis]) -> None:
        self.clock = FakeClock()
        self.servers = servers
        self.url = f"{url}?prefix={unique('test')}:"

    def make(self, *, port: int = 0, lease: float = LEASE, patience: float = 3.0) -> RedisBroker:
        """A node, not open yet. `port`: of a proxy in front of the server."""
        url = self.url.replace(f":{self.servers[0].port}/", f":{port}/") if port else self.url
        nowhere = structlog.wrap_logger(structlog.ReturnLogger())
        options = RedisOptions(lease=lease, patience=patience)
        return RedisBroker(RedisUrl(url), self.clock, options=options, log=nowhere)

    async def open(self) -> Broker:
        broker = self.make()
        await broker.open()
        return broker

    async def crash(self, broker: Broker) -> None:
        """Its lease has passed when this returns."""
        assert isinstance(broker, RedisBroker)
        broker.crash()
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        loop.call_later(LEASE * 1.1, passed.set_result, None)
        await passed

    def advance(self, broker: Broker, seconds: float) -> None:
        assert isinstance(broker, RedisBroker)
        broker.partitions.sweep()

    async def take_storage_away(self, broker: Broker) -> None:
        """It takes nothing more."""
        for server in self.servers:
            await asyncio.to_thread(server.call, "CONFIG", "SET", "maxmemory", "1")

    def give_storage_back(self, broker: Broker) -> None:
        for server in self.servers:
            server.call("CONFIG", "SET", "maxmemory", "0")
