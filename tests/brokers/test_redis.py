"""`redis://` against the contract of all brokers: an own redis-server that writes each command to disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.redis_place import RedisPlace, skip_without_redis
from tests.clusters.redis import OwnRedis
from tests.contracts.broker import BrokerContract, Place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    skip_without_redis()
    folder: Path = tmp_path_factory.mktemp("redis")
    with OwnRedis(folder) as server:
        yield server


class TestRedis(BrokerContract):
    @pytest.fixture
    def place(self, server: OwnRedis) -> Place:
        return RedisPlace(server.url, [server])
