"""Places of the directory for the contract suite."""

import asyncio
from collections.abc import Callable

from smart_router.bus.local import LocalBus
from smart_router.bus.redis import RedisBus
from smart_router.clock import SystemClock
from smart_router.directory.base import Directory, NodeRecord
from smart_router.directory.bus import BusDirectory
from smart_router.directory.local import LocalDirectory
from smart_router.directory.redis import RedisDirectory
from smart_router.directory.redis_members import PARTITIONS
from smart_router.directory.redis_partitions import sessions_key, tag_of
from tests.fakes.clock import FakeClock, until
from tests.fakes.exchange import FaultyExchange
from tests.fakes.redis import StraightWays, Ways

__all__ = ["BusOverRedisPlace", "BusPlace", "LocalPlace", "RedisPlace", "wait_for"]

TURNS = 8
"""Of the event loop: enough for a question, its answer, and what follows from it."""


class LocalPlace:
    """One node. Nothing under it can fail."""

    lease = 6.0
    many_nodes = False

    def __init__(self) -> None:
        self.clock = FakeClock()

    def make(self, node: str, installation: str = "") -> Directory:
        return LocalDirectory()

    async def open(self, directory: Directory, me: NodeRecord) -> None:
        await directory.open(me)

    async def step(self) -> None:
        self.clock.advance(0.5)

    def now(self) -> float:
        return self.clock.now

    async def crash(self, directory: Directory) -> None:
        raise NotImplementedError

    async def cut(self, directory: Directory) -> None:
        raise NotImplementedError

    async def heal(self, directory: Directory) -> None:
        raise NotImplementedError

    async def lose_everything(self) -> None:
        raise NotImplementedError


class BusPlace:
    """Nodes of one process, and a clock that stands still between the steps."""

    lease = 6.0
    many_nodes = True

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.exchanges: dict[str, FaultyExchange] = {}
        self.directories: list[BusDirectory] = []
        self.buses: dict[Directory, tuple[LocalBus, FaultyExchange]] = {}

    def make(self, node: str, installation: str = "") -> BusDirectory:
        exchange = self.exchanges.setdefault(installation, FaultyExchange())
        bus = LocalBus(node, exchange)
        directory = BusDirectory(bus, self.clock, lease=self.lease, settle=0.5)
        self.directories.append(directory)
        self.buses[directory] = bus, exchange
        return directory

    async def open(self, directory: Directory, me: NodeRecord) -> None:
        await self.buses[directory][0].open()
        opening = asyncio.create_task(directory.open(me))
        while not opening.done():
            await self.advance(0.1)
        await opening

    async def crash(self, directory: Directory) -> None:
        await self.buses[directory][0].close()

    async def cut(self, directory: Directory) -> None:
        bus, exchange = self.buses[directory]
        exchange.part(bus)

    async def heal(self, directory: Directory) -> None:
        bus, exchange = self.buses[directory]
        exchange.heal(bus)

    async def lose_everything(self) -> None:
        """There is no server that keeps anything."""

    async def step(self) -> None:
        await self.advance(0.5)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for directory in self.directories:
            if directory.deadlines is not None:
                directory.deadlines.run(self.clock.now)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def now(self) -> float:
        return self.clock.now


class RedisPlace:
    """A real Redis, each node by a way of its own, in real time with a short lease."""

    lease = 1.2
    many_nodes = True

    def __init__(self, ways: Ways | StraightWays) -> None:
        self.ways = ways

    def make(self, node: str, installation: str = "") -> Directory:
        url, proxy = self.ways.take(installation)
        directory = RedisDirectory(url, node, SystemClock(), lease=self.lease)
        self.ways.give(directory, proxy)
        return directory

    async def open(self, directory: Directory, me: NodeRecord) -> None:
        await directory.open(me)

    async def crash(self, directory: Directory) -> None:
        assert isinstance(directory, RedisDirectory)
        directory.abort()

    async def cut(self, directory: Directory) -> None:
        self.ways.cut(directory)
        await until(directory.trouble)

    async def heal(self, directory: Directory) -> None:
        self.ways.heal(directory)
        await until(lambda: not directory.trouble())

    async def lose_everything(self) -> None:
        """All keys of this test."""
        async with self.ways.straight() as redis:
            for number in range(PARTITIONS):
                await redis.call(tag_of(number), "DEL", sessions_key(redis, number))
            await redis.call("dir", "DEL", redis.key("dir", "leases"), redis.key("dir", "nodes"))

    async def step(self) -> None:
        await asyncio.sleep(0.02)

    def now(self) -> float:
        return SystemClock.monotonic()


class BusOverRedisPlace(RedisPlace):
    """The directory over the bus, when the bus is Redis: announcements on a real wire, in real time."""

    def __init__(self, ways: Ways) -> None:
        super().__init__(ways)
        self.buses: dict[Directory, RedisBus] = {}

    def make(self, node: str, installation: str = "") -> Directory:
        url, proxy = self.ways.take(installation)
        bus = RedisBus(url, node)
        directory = BusDirectory(bus, SystemClock(), lease=self.lease, settle=0.3)
        self.buses[directory] = bus
        self.ways.give(directory, proxy)
        return directory

    async def open(self, directory: Directory, me: NodeRecord) -> None:
        await self.buses[directory].open()
        await directory.open(me)

    async def crash(self, directory: Directory) -> None:
        self.buses[directory].abort()

    async def close(self) -> None:
        for bus in self.buses.values():
            await bus.close()


async def wait_for(condition: Callable[[], bool]) -> None:
    """With more patience than `until`: a server starts, and its clients back off."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a provider tells its trouble in many ways
            await asyncio.sleep(0.01)
