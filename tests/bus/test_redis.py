"""The bus over Redis against the contract of all buses."""

from collections.abc import AsyncIterator

import pytest

from tests.bus.places import RedisPlace
from tests.contracts.bus import BusContract, Place
from tests.fakes.clock import until
from tests.fakes.redis import Ways
from tests.services import unique


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
