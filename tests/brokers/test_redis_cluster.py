"""The contract of all brokers on a Redis Cluster of three masters."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from smart_router.brokers.redis_options import tag_of
from smart_router.redis.slots import slot_of_tag
from tests.brokers.redis_place import RedisPlace, skip_without_redis
from tests.clusters.redis_cluster import RedisCluster
from tests.contracts.broker import Bench, BrokerContract, Place, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    skip_without_redis()
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


async def test_slots_that_have_moved_are_followed(cluster: RedisCluster) -> None:
    """Of a partition that is empty: with mailboxes in it this needs the nodes to be stopped (docs/brokers.md)."""
    place = RedisPlace(cluster.url, cluster.nodes)
    for node in cluster.nodes:
        await asyncio.to_thread(node.call, "FLUSHALL")
    bench = Bench(place)
    bench.broker = broker = place.make(lease=5.0)
    await broker.open()
    address = "ui/456/wanderer"
    here = cluster.node_of(broker.redis.key(tag_of(address), "").decode())
    there = next(node for node in cluster.nodes if node is not here)
    slot = str(slot_of_tag(tag_of(address)))
    for node in cluster.nodes:
        await asyncio.to_thread(node.call, "CLUSTER", "SETSLOT", slot, "NODE", there.call("CLUSTER", "MYID"))
    assert not (await bench.put(address)).refused
    reader, _ = await bench.read(address=address)
    assert await reader.has(1) == ["m1"]
    broker.ack(reader.entries)
    await broker.close()
    for node in cluster.nodes:
        await asyncio.to_thread(node.call, "FLUSHALL")
    for node in cluster.nodes:
        await asyncio.to_thread(node.call, "CLUSTER", "SETSLOT", slot, "NODE", here.call("CLUSTER", "MYID"))
