"""The contract of all brokers on a Redis Cluster of three masters."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from smart_router.brokers.redis_options import tag_of
from tests.brokers.redis_place import RedisPlace
from tests.clusters.redis_cluster import RedisCluster
from tests.contracts.broker import Bench, BrokerContract, Place, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestRedisCluster(BrokerContract):
    @pytest.fixture
    def place(self, cluster: RedisCluster) -> Place:
        return RedisPlace(cluster.url, cluster.nodes)


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (a cluster tells nobody)
            await asyncio.sleep(0.01)


@pytest.mark.fault
async def test_a_master_is_killed_under_load_and_nothing_accepted_is_lost(cluster: RedisCluster) -> None:
    place = RedisPlace(cluster.url, cluster.nodes)
    bench = Bench(place)
    bench.broker = broker = place.make(lease=5.0)
    await broker.open()
    addresses = [f"ui/456/user{number}" for number in range(30)]
    readers = {address: (await bench.read(credit=10_000, address=address))[0] for address in addresses}
    accepted: dict[str, list[str]] = {address: [] for address in addresses}
    for turn in range(2):
        victim = cluster.node_of(broker.redis.key(tag_of(addresses[turn]), "").decode())
        started = [(address, bench.start(address)) for _ in range(20) for address in addresses]
        await until(lambda: sum(len(reader.entries) for reader in readers.values()) > 20)
        victim.kill()
        await within(10, lambda: not broker.redis.up)
        await asyncio.to_thread(victim.start)
        await asyncio.to_thread(cluster.await_whole)
        await within(10, lambda: broker.redis.up)
        for number, (address, future) in enumerate(started):
            if not (await future).refused:
                accepted[address].append(f"m{turn * 600 + number + 1}")
    await within(10, lambda: all(set(accepted[address]) <= set(readers[address].ids) for address in addresses))
    assert sum(map(len, accepted.values())) > 600
    for reader in readers.values():
        first_seen = list(dict.fromkeys(reader.ids))
        assert first_seen == sorted(first_seen, key=lambda name: int(name[1:]))
        broker.ack(reader.entries)
    await broker.close()
