"""The directory in Redis: the contract of all directories, and what only a server can do to it."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from smart_router.directory.base import SessionRecord, SessionState
from smart_router.directory.redis import RedisDirectory
from smart_router.directory.redis_members import PARTITIONS, member_of, page_range, partition_of, read_member
from smart_router.directory.redis_partitions import sessions_key
from smart_router.errors import BrokerAway, StorageError, StorageFull
from smart_router.redis.client import Redis
from tests.contracts.directory import Bench, DirectoryContract, Node, Place, in_order
from tests.directory.places import RedisPlace, wait_for
from tests.fakes.redis import Ways
from tests.services import StartRedis, unique


@pytest.fixture
async def place(redis: str) -> AsyncIterator[RedisPlace]:
    async with Ways.to(redis, unique("directory")) as ways:
        place = RedisPlace(ways)
        yield place
        await place.lose_everything()


class TestRedisDirectory(DirectoryContract):
    @pytest.fixture
    async def place(self, redis: str) -> AsyncIterator[Place]:
        async with Ways.to(redis, unique("directory")) as ways:
            place = RedisPlace(ways)
            yield place
            await place.lose_everything()


@pytest.fixture
async def bench(place: RedisPlace) -> AsyncIterator[Bench]:
    bench = Bench(place)
    yield bench
    await bench.close()


async def members(redis: Redis) -> list[bytes]:
    """Of all partitions."""
    found = [await redis.call("", "ZRANGE", sessions_key(redis, number), 0, -1) for number in range(PARTITIONS)]
    return [member for some in found for member in some]


async def test_many_sessions_in_one_turn_are_a_call_for_each_partition(bench: Bench, place: RedisPlace) -> None:
    one, two = await bench.nodes(2)
    async with place.ways.straight() as redis:
        before = await commands(redis)
        sessions = [one.session(f"s{number}", f"ui/456/{number}", number) for number in range(5_000)]
        assert await asyncio.gather(*map(one.directory.add, sessions)) == [[]] * 5_000
        assert await commands(redis) - before <= 2 * PARTITIONS
    assert await two.everything() == in_order(sessions)


async def commands(redis: Redis) -> int:
    """Scripts that Redis has run."""
    told = (await redis.call("", "INFO", "commandstats")).decode()
    line = next((line for line in told.splitlines() if line.startswith("cmdstat_evalsha:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_the_sessions_of_a_dead_node_are_swept_up(bench: Bench, place: RedisPlace) -> None:
    one, two = await bench.nodes(2)
    for number in range(300):
        await one.add(f"dead-{number}", f"ui/{number}")
        await two.add(f"lives-{number}", f"ui/{number}")
    await bench.crash(one)
    async with place.ways.straight() as redis:

        async def swept() -> bool:
            return not [member for member in await members(redis) if b" dead-" in member]

        await bench.until(swept)
        assert len(await members(redis)) == 300
        assert await redis.call("", "ZCARD", redis.key("dir", "leases")) == 1
        assert await redis.call("", "HLEN", redis.key("dir", "nodes")) == 1


async def test_who_comes_across_a_dead_session_ignores_it_and_takes_it_away(bench: Bench, place: RedisPlace) -> None:
    one = await bench.node()
    left_over = SessionRecord("s0", "ui/456/alice", "ui/456", "gone", "alice", 1)
    async with place.ways.straight() as redis:
        for id_, actor in (("s0", "ui/456/alice"), ("s1", "ui/456/bob"), ("s2", "ui/456/carol")):
            session = SessionRecord(id_, actor, "ui/456", "gone", "alice", 1)
            key = sessions_key(redis, partition_of(session.actor))
            await redis.call("", "ZADD", key, 0, member_of(session, "gone.1"))
        assert await one.add("mine", left_over.actor) == []
        assert await one.actors_sessions("ui/456/bob") == []
        assert await one.ids() == ["mine"]

        async def cleaned() -> bool:
            return len(await members(redis)) == 1

        await bench.until(cleaned)


async def test_what_is_not_ours_is_left_alone(bench: Bench, place: RedisPlace) -> None:
    one, two = await bench.nodes(2)
    await one.add("s1")
    actor = "ui/456/alice"
    strange = [b"x", b"a b c d", f"{actor} s2 {one.id}.1 ".encode(), f"{actor} s\xff a.1 \x93".encode("latin-1"), b" "]
    async with place.ways.straight() as redis:
        key = sessions_key(redis, partition_of(actor))
        for member in strange:
            await redis.call("", "ZADD", key, 0, member)
        await redis.call("", "ZADD", redis.key("dir", "leases"), 9e15, "stranger", 9e15, b"\xff\xfe.1")
        await redis.call("", "HSET", redis.key("dir", "nodes"), "stranger", "{}", b"\xff\xfe.1", b"\xff")
        await bench.pass_leases(0.5)
        for node in (one, two):
            assert await node.actors_sessions() == ["s1"]
            assert await node.ids() == ["s1"]
            assert await node.node_ids() == [one.id, two.id]
        await two.add("s2")
        assert len(await members(redis)) == len(strange) + 2
        await redis.call("", "DEL", key)


async def test_a_lease_that_was_taken_away_is_taken_again(bench: Bench, place: RedisPlace) -> None:
    one, two = await bench.nodes(2)
    await one.add("s1")
    async with place.ways.straight() as redis:
        await redis.call("", "ZREM", redis.key("dir", "leases"), f"{one.id}.1")
        await bench.all_become(["s1"], Node.ids)
        await bench.all_become([one.id, two.id], Node.node_ids)
        await bench.becomes([f"{one.id}.2".encode()], lambda: owners(redis, one))
        assert (await two.add("s2", since=2)) == ["s1"]

        async def one_copy() -> bool:
            return len(await members(redis)) == 2

        await bench.until(one_copy)


async def test_of_two_lives_of_a_node_the_later_is_believed(bench: Bench, place: RedisPlace) -> None:
    one, two = await bench.nodes(2)
    state = SessionState(status="away")
    old, new = one.session("s1"), msgspec.structs.replace(one.session("s1"), state=state)
    async with place.ways.straight() as redis:
        for life in (9, 11, 10):
            record = msgspec.json.encode(one.record)
            await redis.call("", "ZADD", redis.key("dir", "leases"), 9e15, f"{one.id}.{life}")
            await redis.call("", "HSET", redis.key("dir", "nodes"), f"{one.id}.{life}", record)
            member = member_of(new if life == 11 else old, f"{one.id}.{life}")
            await redis.call("", "ZADD", sessions_key(redis, partition_of(old.actor)), 0, member)
        await bench.step()
        assert await two.directory.of_actor(old.actor) == [new]
        assert await two.everything() == [new]
        assert await two.directory.add(two.session("s2")) == [new]
        assert await two.node_ids() == [one.id, two.id]


async def owners(redis: Redis, node: Node) -> list[bytes]:
    leases = await redis.call("", "ZRANGE", redis.key("dir", "leases"), 0, -1)
    return [owner for owner in leases if owner.startswith(node.id.encode())]


async def test_scripts_that_redis_has_lost_are_loaded_again(own_redis: StartRedis) -> None:
    redis = await asyncio.to_thread(own_redis)
    async with Ways.to(redis.url, "x") as ways:
        bench = Bench(RedisPlace(ways))
        one, two = await bench.nodes(2)
        await one.add("s1", since=1)
        redis.call("SCRIPT", "FLUSH")
        assert await two.add("s2", since=2) == ["s1"]
        one.directory.remove(one.session("s1"))
        await bench.all_become(["s2"], Node.ids)
        await bench.close()


@pytest.mark.parametrize("keeps", ["yes", "no"])
async def test_after_redis_itself_was_killed_all_is_there_again(own_redis: StartRedis, keeps: str) -> None:
    redis = await asyncio.to_thread(own_redis, "--appendonly", keeps)
    async with Ways.to(redis.url, "x") as ways:
        bench = Bench(RedisPlace(ways))
        one, two = await bench.nodes(2)
        for number in range(1_200):
            await (one, two)[number % 2].add(f"s{number:04}", f"ui/{number % 100}")
        await bench.all_become(1_200, count)
        await asyncio.to_thread(redis.kill)
        with pytest.raises(BrokerAway):
            await one.add("refused")
        for node in (one, two):
            with pytest.raises(BrokerAway):
                await node.directory.of_actor("ui/1")
            with pytest.raises(BrokerAway):
                await node.directory.sessions()
            with pytest.raises(BrokerAway):
                await node.directory.nodes()
        two.directory.remove(two.session("s0001", "ui/1"))
        await asyncio.to_thread(redis.start)
        await wait_for(lambda: not one.directory.trouble() and not two.directory.trouble())
        await bench.all_become([one.id, two.id], Node.node_ids)
        await bench.all_become(1_199, count)
        async with ways.straight() as straight:

            async def one_copy() -> bool:
                return len(await members(straight)) == 1_199

            await bench.until(one_copy)
        await bench.close()


async def count(node: Node) -> int:
    return len(await node.ids())


async def test_a_full_redis_refuses_and_what_it_missed_is_made_good(own_redis: StartRedis) -> None:
    redis = await asyncio.to_thread(own_redis)
    async with Ways.to(redis.url, "x") as ways:
        bench = Bench(RedisPlace(ways))
        one, two = await bench.nodes(2)
        await one.add("s1", since=1)
        redis.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StorageFull):
            await one.add("s2")
        assert await one.actors_sessions() == ["s1"]
        one.directory.remove(one.session("s1"))
        redis.call("CONFIG", "SET", "maxmemory", "0")
        await bench.all_become([], Node.ids)
        await bench.all_become([one.id, two.id], Node.node_ids)
        await one.add("s3", since=1)
        assert await two.add("s4", since=2) == ["s3"]
        await bench.close()


async def test_away_while_an_add_is_on_its_way(bench: Bench, place: RedisPlace) -> None:
    one = await bench.node()
    adding = asyncio.ensure_future(one.add("s1"))
    await asyncio.sleep(0)
    await place.cut(one.directory)
    with pytest.raises(StorageError):
        await adding
    await place.heal(one.directory)
    await bench.becomes([], one.ids)
    async with place.ways.straight() as redis:

        async def nothing() -> bool:
            return await members(redis) == []

        await bench.until(nothing)


async def test_one_actor_with_a_thousand_sessions(bench: Bench) -> None:
    one, two = await bench.nodes(2)
    sessions = [one.session(f"s{number:04}", "bot", number) for number in range(1_000)]
    await asyncio.gather(*map(one.directory.add, sessions))
    assert await two.directory.of_actor("bot") == sessions
    assert await two.directory.sessions("bot", "bot s0499", 300) == sessions[500:800]
    assert await two.add("mine", "bot", 5_000) == [session.id for session in sessions]


async def test_before_it_is_open_it_is_away(place: RedisPlace) -> None:
    directory = place.make("one")
    assert isinstance(directory, RedisDirectory)
    for call in (directory.nodes(), directory.sessions(), directory.of_actor("ui/1")):
        with pytest.raises(BrokerAway, match="not open"):
            await call
    directory.remove(SessionRecord("s1", "ui/1", "ui", "one", "x", 1))
    await directory.close()


def test_a_member_is_read_as_it_was_written() -> None:
    session = SessionRecord("s1", "ui/456/~a@b:c+d-e_f.g", "ui/456", "node.with.dots-1", "“ä” x \x00", 2**52)
    assert read_member(member_of(session, "node.with.dots-1.17")) == ("node.with.dots-1.17", session)


@pytest.mark.parametrize(
    ("prefix", "after", "wanted"),
    [
        ("", "", (b"[", b"+")),
        ("ui/", "", (b"[ui/", b"(ui/\xff")),
        ("ui/", "agent/1 s", (b"[ui/", b"(ui/\xff")),
        ("ui/", "ui/1 s", (b"(ui/1 s \xff", b"(ui/\xff")),
        ("", "ui/1 s", (b"(ui/1 s \xff", b"+")),
    ],
)
def test_where_a_page_begins_and_ends(prefix: str, after: str, wanted: tuple[bytes, bytes]) -> None:
    assert page_range(prefix, after) == wanted
