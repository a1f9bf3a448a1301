"""The bus over Redis against the contract of all buses."""

from collections.abc import AsyncIterator

import pytest

from smart_router.bus.base import Bus
from smart_router.bus.redis import RedisBus
from tests.contracts.bus import BusContract, Place
from tests.fakes.clock import until
from tests.fakes.redis import Ways
from tests.services import unique


class RedisPlace:
    def __init__(self, ways: Ways) -> None:
        self.ways = ways

    def make(self, node: str, installation: str = "") -> Bus:
        url, proxy = self.ways.take(installation)
        bus = RedisBus(url, node)
        self.ways.give(bus, proxy)
        return bus

    async def cut(self, bus: Bus) -> None:
        self.ways.cut(bus)

    async def heal(self, bus: Bus) -> None:
        self.ways.heal(bus)

    async def meddle(self, bus: Bus) -> int:
        strange = [b"", b"1", b"1 a b", b"2 a news x", b"1 \xff news x", b"1 a \xff x", b"1 a  0", b"\x00" * 100]
        async with self.ways.straight() as redis:
            for channel in (redis.channel("bus/0"), redis.channel(f"bus/0/{bus.node}")):
                for message in strange:
                    redis.publish(channel, message)
            await redis.call("", "PING")
        return 2 * len(strange)


@pytest.fixture
async def ways(redis: str) -> AsyncIterator[Ways]:
    async with Ways.to(redis, unique("bus")) as ways:
        yield ways


class TestRedisBus(BusContract):
    @pytest.fixture
    def place(self, ways: Ways) -> Place:
        return RedisPlace(ways)


async def test_what_was_on_its_way_when_the_connection_broke_is_counted(ways: Ways) -> None:
    place = RedisPlace(ways)
    bus = place.make("one")
    await bus.open()
    await place.cut(bus)
    for _ in range(10):
        bus.publish("news", b"x")
    await until(bus.trouble)
    assert bus.statistics().lost == 10
    await bus.close()
