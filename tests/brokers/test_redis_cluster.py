"""The contract of all brokers on a Redis Cluster of three masters."""

from collections.abc import Iterator

import pytest

from tests.brokers.redis_place import RedisPlace
from tests.clusters.redis_cluster import RedisCluster
from tests.contracts.broker import BrokerContract, Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestRedisCluster(BrokerContract):
    @pytest.fixture
    def place(self, cluster: RedisCluster) -> Place:
        return RedisPlace(cluster.url, cluster.nodes)
