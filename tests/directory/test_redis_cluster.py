"""The directory on a Redis Cluster of three masters against the contract of all directories."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.clusters.redis_cluster import RedisCluster
from tests.contracts.directory import Bench, DirectoryContract, Node, Place
from tests.directory.places import RedisPlace, wait_for
from tests.fakes.redis import StraightWays
from tests.services import unique

pytestmark = pytest.mark.slow


class TestRedisClusterDirectory(DirectoryContract):
    @pytest.fixture
    def place(self, redis_cluster: RedisCluster) -> Place:
        return RedisPlace(StraightWays(redis_cluster.url, unique("directory")))


@pytest.fixture
async def bench(redis_cluster: RedisCluster) -> AsyncIterator[Bench]:
    bench = Bench(RedisPlace(StraightWays(redis_cluster.url, unique("directory"))))
    yield bench
    await bench.close()


@pytest.mark.fault
async def test_a_master_that_was_killed_and_comes_back(bench: Bench, redis_cluster: RedisCluster) -> None:
    one, two = await bench.nodes(2)
    for number in range(600):
        await (one, two)[number % 2].add(f"s{number:03}", f"ui/{number}")
    for master in redis_cluster.nodes:
        await asyncio.to_thread(master.kill)
        await wait_for(lambda: bool(one.directory.trouble() and two.directory.trouble()))
        await asyncio.to_thread(redis_cluster.repair)
        await wait_for(lambda: not one.directory.trouble() and not two.directory.trouble())
        await bench.all_become([one.id, two.id], Node.node_ids)
        await bench.all_become([f"s{number:03}" for number in range(600)], by_id)


async def by_id(node: Node) -> list[str]:
    return sorted(await node.ids())
