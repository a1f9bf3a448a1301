"""The broker that the servers of a scenario share: one that is given, or one of our own that can be killed.

embedded://…            each server its own
amqp://…, redis://…     as it is, and never killed
rabbitmq                three RabbitMQ nodes; killed is the one that leads some mailbox's queue
redis                   one Redis that writes each command to disk before its answer
redis-cluster           three masters of a Redis Cluster that do
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from tests.clusters.rabbit_cluster import RabbitCluster
from tests.clusters.rabbitmq import OwnRabbit
from tests.clusters.redis import OwnRedis
from tests.clusters.redis_cluster import RedisCluster

__all__ = ["OWN", "Broker", "OpenBroker", "RabbitBroker", "open_broker"]

OWN = ("rabbitmq", "redis", "redis-cluster")
_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}

Place = tuple[str, int]


class Broker:
    """One that is given: `url`, and the `places` in it that servers can be led to by another way."""

    can_be_killed = False

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",") if parts.scheme in _PORTS else []
        self.places = [_place(host, _PORTS[parts.scheme]) for host in hosts]

    def by_way_of(self, places: list[Place]) -> str:
        """The URL with these places instead of its own."""
        if not places:
            return self.url
        parts = urlsplit(self.url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=login + at + ",".join(f"{host}:{port}" for host, port in places)))

    async def kill_one(self, rng: random.Random) -> None:
        """One of its nodes is gone when this returns."""
        raise NotImplementedError

    async def bring_back(self) -> None:
        """What was killed serves again when this returns."""
        raise NotImplementedError


class RabbitBroker(Broker):
    """A virtual host of a cluster of ours."""

    can_be_killed = True

    def __init__(self, cluster: RabbitCluster, vhost: str = "/") -> None:
        super().__init__(cluster.url + quote(vhost, safe=""))
        self._cluster = cluster
        self._vhost = vhost

    async def kill_one(self, rng: random.Random) -> None:
        (await asyncio.to_thread(self._leader, rng)).kill()

    async def bring_back(self) -> None:
        await asyncio.to_thread(self._cluster.repair)

    def _leader(self, rng: random.Random) -> OwnRabbit:
        listed = ("list_queues", "--vhost", self._vhost, "name", "type", "--formatter", "json")
        told = json.loads(self._cluster.alive.ctl(*listed))
        queues = [queue["name"] for queue in told if queue["type"] == "quorum"]
        return self._cluster.leader_of(rng.choice(queues), self._vhost)


class _Redis(Broker):
    can_be_killed = True

    def __init__(self, server: OwnRedis) -> None:
        super().__init__(server.url)
        self._server = server

    async def kill_one(self, rng: random.Random) -> None:
        self._server.kill()

    async def bring_back(self) -> None:
        await asyncio.to_thread(self._server.start)


class _RedisCluster(Broker):
    can_be_killed = True

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__(f"redis://{','.join(f'127.0.0.1:{node.port}' for node in cluster.nodes)}/0")
        self.places = []  # its nodes tell their places themselves
        self._cluster = cluster

    async def kill_one(self, rng: random.Random) -> None:
        rng.choice(self._cluster.nodes).kill()

    async def bring_back(self) -> None:
        await asyncio.to_thread(self._cluster.repair)


OpenBroker = Callable[[str, Path], AbstractContextManager[Broker]]


@contextmanager
def open_broker(name: str, folder: Path) -> Iterator[Broker]:
    """One of `OWN`, running while the context is open, or what a URL says."""
    if name == "rabbitmq":
        with RabbitCluster(folder) as rabbits:
            yield RabbitBroker(rabbits)
    elif name == "redis":
        with OwnRedis(folder) as server:
            yield _Redis(server)
    elif name == "redis-cluster":
        with RedisCluster(folder) as masters:
            yield _RedisCluster(masters)
    else:
        yield Broker(name)


def _place(text: str, port: int) -> Place:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "127.0.0.1", parts.port or port
