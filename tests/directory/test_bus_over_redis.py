"""The directory over the bus on a real wire: the contract of all directories once more, with Redis as the bus."""

from collections.abc import AsyncIterator

import pytest

from tests.contracts.directory import DirectoryContract, Place
from tests.directory.places import BusOverRedisPlace
from tests.fakes.redis import Ways
from tests.services import unique

pytestmark = pytest.mark.slow


class TestBusDirectoryOverRedis(DirectoryContract):
    @pytest.fixture
    async def place(self, redis: str) -> AsyncIterator[Place]:
        async with Ways.to(redis, unique("directory")) as ways:
            place = BusOverRedisPlace(ways)
            yield place
            await place.close()
