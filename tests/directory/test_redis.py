"""The directory in Redis against the contract of all directories."""

from collections.abc import AsyncIterator

import pytest

from tests.contracts.directory import DirectoryContract, Place
from tests.directory.places import RedisPlace
from tests.fakes.redis import Ways
from tests.services import unique


class TestRedisDirectory(DirectoryContract):
    @pytest.fixture
    async def place(self, redis: str) -> AsyncIterator[Place]:
        async with Ways.to(redis, unique("directory")) as ways:
            place = RedisPlace(ways)
            yield place
            await place.lose_everything()
