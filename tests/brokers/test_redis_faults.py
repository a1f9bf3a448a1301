"""The Redis broker while Redis, the network, or the node itself fails."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from faults.proxy import Proxy, Silence
from smart_router.brokers.base import End, MailboxPolicy, PutResult
from smart_router.brokers.redis import RedisBroker
from smart_router.brokers.redis_options import tag_of
from smart_router.clock import SystemClock
from smart_router.errors import BrokerAway, ConfigError
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl
from tests.brokers.redis_place import RedisPlace
from tests.clusters.redis import OwnRedis
from tests.contracts.broker import BOX, EXCLUSIVE, Bench, FakeClock, Reader, until
from tests.services import StartRedis


class Nodes:
    """One Redis, and as many nodes as a test wants; their ends go to `bench`."""

    def __init__(self, server: OwnRedis) -> None:
        self.server = server
        self.place = RedisPlace(server.url, [server])
        self.bench = Bench(self.place)
        self.brokers: list[RedisBroker] = []

    async def open(self, *, port: int = 0, lease: float = 0.3, patience: float = 3.0) -> RedisBroker:
        broker = self.place.make(port=port, lease=lease, patience=patience)
        broker.on_end = self.bench._on_end
        await broker.open()
        self.brokers.append(broker)
        self.bench.broker = broker
        return broker

    async def close(self) -> None:
        for broker in self.brokers:
            await broker.close()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture
async def nodes(own_redis: StartRedis) -> AsyncIterator[Nodes]:
    nodes = Nodes(await asyncio.to_thread(own_redis))
    yield nodes
    if not nodes.server.running:
        await nodes.restart()
    nodes.server.resume()
    await nodes.close()


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the network tells nobody)
            await asyncio.sleep(0.005)


async def test_redis_is_killed_under_load_and_nothing_accepted_is_lost(nodes: Nodes) -> None:
    broker, bench = await nodes.open(lease=5.0), nodes.bench
    reader, subscription = await bench.read(credit=10_000)
    accepted: list[str] = []
    refused: list[str] = []
    confirmed: set[str] = set()
    for turn in range(3):
        results = [(bench.start(BOX, "ui/456/later"), f"m{turn * 500 + number + 1}") for number in range(500)]
        await reader.has(turn * 400 + 1)
        broker.ack(reader.entries[-50:])
        confirmed |= {entry.message.id for entry in reader.entries[-50:]}
        nodes.server.kill()
        await within(5, lambda: not broker.redis.up)
        assert (await bench.put()).refused[BOX].temporary
        bench.message()
        await nodes.restart()
        for future, name in results:
            (refused if (await future).refused else accepted).append(name)
        await within(10, lambda: broker.redis.up)
        bench._numbers = iter(range((turn + 1) * 500 + 1, 10**9))  # type: ignore[assignment]
    await within(10, lambda: set(accepted) <= {entry.message.id for entry in reader.entries})
    assert len(accepted) + len(refused) == 1500
    first_seen = list(dict.fromkeys(reader.ids))
    assert first_seen == sorted(first_seen, key=lambda name: int(name[1:]))
    subscription.close()
    later, _ = await bench.read(credit=10_000, address="ui/456/later")
    await within(10, lambda: set(accepted) <= set(later.ids))
    assert len(later.ids) == len(set(later.ids)), "a call that was sent again was done twice"
    again, _ = await bench.read(credit=10_000)
    await within(10, lambda: len(again.ids) >= len(set(reader.ids) - confirmed))
    assert not confirmed & set(again.ids), "a confirmed message came again"


async def test_a_call_whose_answer_was_lost_is_done_once(nodes: Nodes) -> None:
    async with Proxy(("127.0.0.1", nodes.server.port)) as proxy:
        broker, bench = await nodes.open(port=proxy.port, lease=5.0), nodes.bench
        await bench.put()
        for connection in proxy.connections:
            connection.silence = Silence.TO_CLIENT
        results = [bench.start() for _ in range(20)]
        await until(lambda: broker.redis.statistics().unanswered > 0)
        async with asyncio.timeout(5):
            while int(nodes.server.call("XLEN", _stream(nodes.place, BOX)).lstrip(":")) < 21:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for connection in list(proxy.connections):
            connection.cut()
        assert not any(result.refused for result in await asyncio.gather(*results))
        reader, _ = await bench.read()
        assert await reader.has(21) == [f"m{number}" for number in range(1, 22)]
        await bench.has_waiting(0)
        await nodes.close()


def _stream(place: RedisPlace, address: str) -> str:
    return Redis(RedisUrl(place.url), name="test").key(tag_of(address), f"s4:{address}").decode()


async def test_a_node_that_was_cut_off_gives_way_and_begins_anew(nodes: Nodes) -> None:
    async with Proxy(("127.0.0.1", nodes.server.port)) as proxy:
        cut_off, bench = await nodes.open(port=proxy.port), nodes.bench
        other = await nodes.open()
        old, _ = await bench.read(broker=cut_off, policy=EXCLUSIVE)
        new, _ = await bench.read(broker=other, policy=EXCLUSIVE)
        results = [bench.start(policy=EXCLUSIVE) for _ in range(5)]
        assert await old.has(5) == ["m1", "m2", "m3", "m4", "m5"]
        await asyncio.gather(*results)
        proxy.hold()
        assert await new.has(5) == ["m1", "m2", "m3", "m4", "m5"]
        assert all(entry.redelivered for entry in new.entries)
        cut_off.ack(old.entries)  # void: they are the other's
        late = bench.start(broker=cut_off, policy=EXCLUSIVE)
        proxy.heal()
        assert not (await late).refused
        assert await new.has(6) == ["m1", "m2", "m3", "m4", "m5", "m6"]
        assert len(old.entries) == 5
        statistics = await other.mailbox(BOX)
        assert statistics is not None
        assert statistics.in_flight == 6
        other.ack(new.entries)
        await bench.has_waiting(0)
        assert len(old.entries) == 5
        await nodes.close()


async def test_a_node_that_stood_still_delivers_nothing_that_it_lost_meanwhile(nodes: Nodes) -> None:
    """What it had asked for arrives after its lease: the answer counts for nothing."""
    async with Proxy(("127.0.0.1", nodes.server.port)) as proxy:
        slow, bench = await nodes.open(port=proxy.port), nodes.bench
        other = await nodes.open()
        await bench.put_many(3)
        old, subscription = await bench.read(broker=slow, credit=0)
        proxy.hold(Silence.TO_CLIENT)
        subscription.grant(10)
        new, _ = await bench.read(broker=other)
        assert sorted(await new.has(3)) == ["m1", "m2", "m3"]
        proxy.heal()
        await bench.put(broker=slow)
        await until(lambda: len(new.ids) + len(old.ids) == 4)
        assert not set(old.ids) & {"m1", "m2", "m3"}
        await nodes.close()


async def test_a_lost_wake_up_costs_a_sweep(nodes: Nodes) -> None:
    deaf, bench = await nodes.open(), nodes.bench
    other = await nodes.open()
    reader, _ = await bench.read(broker=deaf)
    line, _ = await bench.read(broker=deaf, policy=EXCLUSIVE, address="ui/456/bob")
    deaf.redis.unsubscribe(deaf.redis.channel(f"w:{deaf.partitions.node}"))
    await bench.put(broker=other)
    await bench.put("ui/456/bob", broker=other, policy=EXCLUSIVE)
    assert await reader.has(1) == ["m1"]
    assert await line.has(1) == ["m2"]


async def test_while_redis_is_away_puts_are_refused_at_once(nodes: Nodes) -> None:
    broker, bench = await nodes.open(patience=0.2), nodes.bench
    reader, _ = await bench.read()
    nodes.server.kill()
    results = [bench.start() for _ in range(10)]
    for result in await asyncio.gather(*results):
        assert result.refused[BOX].code == "broker_away"
    assert "broker.url" in broker.trouble()
    told: list[PutResult] = []
    broker.put([], told.append)
    with pytest.raises(BrokerAway):
        await broker.subscribe("ui/1/x", EXCLUSIVE, Reader())
    await nodes.restart()
    await within(10, lambda: not broker.trouble())
    await bench.put()
    await until(lambda: "m11" in reader.ids)


async def test_what_waits_for_a_redis_that_stands_still_is_bounded(nodes: Nodes) -> None:
    broker, bench = await nodes.open(patience=0.3), nodes.bench
    await bench.put()
    nodes.server.pause()
    first = [bench.start() for _ in range(900)]
    await asyncio.sleep(0.3)
    more = [bench.start() for _ in range(900)]
    codes = [result.result().refused[BOX].code for result in more if result.done()]
    assert codes == ["busy"] * 800
    nodes.server.resume()
    results = await asyncio.gather(*first, *more[:100])
    assert not any(result.refused for result in results)
    assert broker.statistics().bytes_in_memory == 0


async def test_a_subscription_survives_a_redis_that_forgot_everything(nodes: Nodes) -> None:
    broker, bench = await nodes.open(), nodes.bench
    reader, _ = await bench.read(policy=EXCLUSIVE)
    await bench.put(policy=EXCLUSIVE)
    await reader.has(1)
    await asyncio.to_thread(nodes.server.call, "FLUSHALL")
    await within(5, lambda: bool(broker.partitions.box(BOX).holder and broker.partitions.box(BOX).partition.life > 1))
    await bench.put(policy=EXCLUSIVE)
    assert await reader.has(2) == ["m1", "m2"]


async def test_what_others_write_into_our_stream_is_set_aside(nodes: Nodes) -> None:
    _, bench = await nodes.open(), nodes.bench
    stream = _stream(nodes.place, BOX)
    await bench.put()
    await asyncio.to_thread(nodes.server.call, "XADD", stream, "*", "some", "thing")
    await bench.put()
    reader, _ = await bench.read()
    assert await reader.has(2) == ["m1", "m2"]
    await until(lambda: len(bench.ended) == 1)
    assert bench.ended[0][1:] == (End.FAILED, "foreign")
    await asyncio.to_thread(nodes.server.call, "XADD", stream, "*", "m", "R no message of ours")
    await bench.put()
    assert await reader.has(3) == ["m1", "m2", "m3"]
    await until(lambda: len(bench.ended) == 2)
    bench.broker.ack(reader.entries)
    await bench.has_waiting(0)


async def test_a_key_of_another_kind_in_our_place_refuses_and_disturbs_no_other(nodes: Nodes) -> None:
    broker, bench = await nodes.open(), nodes.bench
    key = broker.redis.key(tag_of(BOX), f"m:{BOX}").decode()
    await asyncio.to_thread(nodes.server.call, "LPUSH", key, "x")
    assert BOX in (await bench.put()).refused
    calls = broker.statistics().commits
    assert not (await bench.put("ui/456/bob")).refused
    assert broker.statistics().commits < calls + 100
    await asyncio.to_thread(nodes.server.call, "DEL", key)
    async with asyncio.timeout(5):
        while (await bench.put()).refused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_redis_that_becomes_a_replica_is_left(nodes: Nodes) -> None:
    broker, bench = await nodes.open(patience=0.2), nodes.bench
    await bench.put()
    await asyncio.to_thread(nodes.server.call, "REPLICAOF", "127.0.0.1", "1")
    assert (await bench.put()).refused[BOX].temporary
    await within(5, lambda: "replica" in broker.trouble())
    await asyncio.to_thread(nodes.server.call, "REPLICAOF", "NO", "ONE")
    await within(10, lambda: not broker.trouble())
    assert not (await bench.put()).refused


async def test_lost_scripts_are_loaded_again(nodes: Nodes) -> None:
    _, bench = await nodes.open(), nodes.bench
    await bench.put()
    await asyncio.to_thread(nodes.server.call, "SCRIPT", "FLUSH")
    assert not (await bench.put()).refused
    await bench.has_waiting(2)


async def test_an_eviction_policy_that_throws_messages_away_is_refused(own_redis: StartRedis) -> None:
    server = await asyncio.to_thread(own_redis, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match=r"broker.url: .*allkeys-lru"):
        await RedisPlace(server.url, [server]).open()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--appendonly", "no", "--save", ""], "keeps nothing on disk"),
        (["--appendonly", "no", "--save", "3600", "1"], "snapshots only"),
        (["--appendfsync", "everysec"], "last second"),
        ([], ""),
    ],
)
async def test_what_redis_keeps_is_told_at_the_start(own_redis: StartRedis, arguments: list[str], told: str) -> None:
    server = await asyncio.to_thread(own_redis, *arguments)
    broker = RedisPlace(server.url, [server]).make()
    warnings: list[str] = []
    broker._on_warning = warnings.append
    await broker.open()
    await broker.close()
    warnings = [warning for warning in warnings if "clock" not in warning]  # the fake one is far away
    assert len(warnings) == bool(told)
    assert all(told in warning for warning in warnings)


async def test_a_clock_that_differs_is_told_at_the_start(own_redis: StartRedis) -> None:
    server = await asyncio.to_thread(own_redis)
    warnings: list[str] = []
    for clock in (FakeClock(), SystemClock()):
        url = RedisUrl(RedisPlace(server.url, [server]).url)
        broker = RedisBroker(url, clock, on_warning=warnings.append)
        await broker.open()
        await broker.close()
        assert len(warnings) == 1
    assert "apart" in warnings[0]


async def test_limits_of_a_mailbox_hold_for_all_nodes_together(nodes: Nodes) -> None:
    first, bench = await nodes.open(), nodes.bench
    second = await nodes.open()
    policy = MailboxPolicy(max_messages=5)
    for number in range(10):
        await bench.put(policy=policy, broker=(first, second)[number % 2])
    await bench.has_waiting(5)
    await until(lambda: len(bench.ended) == 5)
    assert [name for name, _, _ in bench.ended] == ["m1", "m2", "m3", "m4", "m5"]


async def test_large_messages_come_in_parts(nodes: Nodes) -> None:
    broker, bench = await nodes.open(), nodes.bench
    body = bytes(60_000)
    for _ in range(3):
        results = [bench.start(body=body) for _ in range(30)]
        assert not any(result.refused for result in await asyncio.gather(*results))
    reader, _ = await bench.read(credit=200)
    assert await reader.has(90) == [f"m{number}" for number in range(1, 91)]
    assert broker.redis.statistics().bytes_read > 90 * len(body)


async def test_two_databases_of_one_redis_are_two_installations(own_redis: StartRedis) -> None:
    server = await asyncio.to_thread(own_redis)
    url = RedisPlace(server.url, [server]).url
    places = [RedisPlace(server.url, [server]) for _ in range(2)]
    places[0].url, places[1].url = url, url.replace("/0?", "/1?")
    benches = [Bench(place) for place in places]
    for bench in benches:
        await bench.open()
        await bench.put()
    await benches[0].broker.delete(BOX)
    await benches[1].has_waiting(1)
    assert benches[1].removed == []
    for bench in benches:
        await bench.broker.close()
