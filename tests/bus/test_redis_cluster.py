"""The bus over a Redis Cluster of three masters against the contract of all buses."""

import pytest

from tests.bus.places import RedisPlace
from tests.clusters.redis_cluster import RedisCluster
from tests.contracts.bus import BusContract, Place
from tests.fakes.redis import StraightWays
from tests.services import unique

pytestmark = pytest.mark.slow


class TestRedisClusterBus(BusContract):
    @pytest.fixture
    def place(self, redis_cluster: RedisCluster) -> Place:
        return RedisPlace(StraightWays(redis_cluster.url, unique("bus")))
