"""The bus over Redis against the contract of all buses."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from smart_router.bus.redis import RedisBus
from smart_router.errors import BrokerAway, StorageError
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl
from tests.bus.places import RedisPlace
from tests.contracts.bus import BusContract, Place
from tests.fakes.clock import until
from tests.fakes.redis import Ways
from tests.services import StartRedis, unique


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


async def test_redis_that_is_away_at_the_start(ways: Ways) -> None:
    place = RedisPlace(ways)
    bus = place.make("one")
    await place.cut(bus)
    with pytest.raises(BrokerAway):
        await bus.open()
    assert bus.trouble()
    await place.heal(bus)
    await bus.open()
    assert bus.trouble() == ""
    await bus.close()


async def test_a_user_without_the_channels_is_told_so(own_redis: StartRedis) -> None:
    redis = await asyncio.to_thread(own_redis)
    redis.call("ACL", "SETUSER", "mute", "on", ">secret", "~sr:*", "resetchannels", "+@all")
    url = RedisUrl(f"redis://mute:secret@127.0.0.1:{redis.port}/0?timeout=1")
    with pytest.raises(StorageError, match="channels"):
        await RedisBus(url, "one").open()
    redis.call("ACL", "SETUSER", "mute", "&sr:bus/*")
    bus = RedisBus(url, "one")
    await bus.open()
    assert bus.trouble() == ""
    await bus.close()


async def test_redis_is_killed_and_comes_back(own_redis: StartRedis) -> None:
    redis = await asyncio.to_thread(own_redis)
    buses = [RedisBus(RedisUrl(redis.url), name) for name in ("one", "two")]
    heard: list[bytes] = []
    ups: list[str] = []
    for bus in buses:
        bus.on_up = lambda bus=bus: ups.append(bus.node)  # type: ignore[misc]
        await bus.open()
    buses[1].listen("news", lambda node, data: heard.append(data))
    await asyncio.to_thread(redis.kill)
    await until(lambda: buses[0].trouble() and buses[1].trouble())
    buses[0].publish("news", b"lost")
    await asyncio.to_thread(redis.start)
    await until(lambda: len(ups) == 2)
    buses[0].publish("news", b"heard")
    await until(lambda: heard)
    assert heard == [b"heard"]
    assert sorted(ups) == ["one", "two"]
    for bus in buses:
        await bus.close()


async def test_only_the_subscriptions_were_lost(ways: Ways) -> None:
    """Calls and channels have connections of their own."""
    place = RedisPlace(ways)
    bus, other = place.make(unique("one")), place.make("two")
    heard: list[bytes] = []
    ups: list[bool] = []
    bus.on_up = lambda: ups.append(True)
    bus.listen("news", lambda node, data: heard.append(data))
    await bus.open()
    await other.open()
    async with ways.straight() as redis:
        await redis.call("", "CLIENT", "KILL", "ID", await pubsub_client(redis, f"bus-{bus.node}"))
    await until(lambda: ups)
    other.publish("news", b"heard")
    await until(lambda: heard)
    assert (heard, ups, bus.statistics().lost) == ([b"heard"], [True], 0)
    await bus.close()
    await other.close()


async def pubsub_client(redis: Redis, name: str) -> str:
    """Of the connection that has subscribed."""
    told = (await redis.call("", "CLIENT", "LIST", "TYPE", "PUBSUB")).decode()
    clients = [dict(word.partition("=")[::2] for word in line.split()) for line in told.splitlines()]
    return str(next(client["id"] for client in clients if client["name"] == name))
