"""Whatever stands in addresses, keys and messages: it stays apart, and is no command, pattern or script (A5)."""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smart_router.brokers.base import End, Entry
from smart_router.brokers.redis_options import dedup_key, tag_of
from smart_router.brokers.redis_rows import ForeignRow, decode_row, encode_row
from smart_router.message import Message
from smart_router.redis.client import Redis
from smart_router.redis.url import RedisUrl
from tests.brokers.redis_place import RedisPlace, skip_without_redis
from tests.clusters.redis import OwnRedis
from tests.contracts.broker import POLICY, until

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["*", "a:b", "\r\n", "#", "\0", "{x}", "]]", "%s", "' .. x", "x" * 10_000, "$1\r\nx\r\n"]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    skip_without_redis()
    with OwnRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@given(TEXT, TEXT)
def test_keys_of_distinct_addresses_are_distinct_and_can_be_read_back(one: str, two: str) -> None:
    redis = Redis(RedisUrl("redis://h"), name="test")
    keys = {kind + name: redis.key(tag_of(name), f"{kind}:{name}") for name in (one, two) for kind in "mf"}
    assert len(set(keys.values())) == len(keys)
    start = len(b"sr:{000}m:")
    assert redis.key(tag_of(one), f"m:{one}")[start:].decode() == one


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_dedup_keys_of_distinct_pairs_are_distinct(one: tuple[str, str], two: tuple[str, str]) -> None:
    assert (dedup_key(*one) == dedup_key(*two)) == (one == two)


@given(st.builds(Message, TEXT, TEXT, st.integers(0, 2**53), TEXT, st.binary(), supersede=st.none() | TEXT, key=TEXT))
def test_a_row_holds_the_whole_message(message: Message) -> None:
    row = bytes(encode_row(message, 1.5))[5:]
    assert decode_row(row) == message


@given(st.binary())
def test_what_is_no_row_is_foreign(data: bytes) -> None:
    try:
        decode_row(data)
    except ForeignRow:
        return
    raise AssertionError("read as a message")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXT, TEXT, st.binary()), min_size=1, max_size=8, unique_by=lambda item: item[1]))
def test_any_text_passes_through_redis_unharmed(server: OwnRedis, items: list[tuple[str, str, bytes]]) -> None:
    async def work() -> None:
        broker = await RedisPlace(server.url, [server]).open()
        ended: list[str] = []

        def on_end(entry: Entry, _end: End, reason: str) -> None:
            ended.append(reason)
            broker.ack([entry])

        broker.on_end = on_end
        loop = asyncio.get_running_loop()
        got: list[Message] = []
        for number, (type_, key, body) in enumerate(items):
            message = Message(f"m{number}", "ui/1/bob", 0, type_, body, supersede=key, key=key)
            done = loop.create_future()
            broker.put([Entry(message, "ui/1/a", POLICY)], done.set_result, ("ui/1/bob", key, key.encode()))
            assert (await done) == ({}, None)

        class Reader:
            def deliver(self, entry: Entry) -> None:
                got.append(entry.message)
                broker.ack([entry])

        subscription = await broker.subscribe("ui/1/a", POLICY, Reader())
        subscription.grant(100)
        await until(lambda: len(got) == len(items))
        assert [(message.type, message.key, message.body) for message in got] == items
        assert ended == []
        await broker.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
