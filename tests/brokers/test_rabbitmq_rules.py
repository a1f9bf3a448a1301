"""DESIGN's rules for RabbitMQ, each with what would go wrong without it; against the real server."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from smart_router.amqp import Channel, Properties, encode_properties
from smart_router.brokers.base import End, MailboxPolicy
from smart_router.brokers.rabbitmq import RabbitBroker
from smart_router.brokers.rabbitmq_names import Names
from smart_router.errors import StorageError
from tests.brokers.rabbitmq_place import RabbitPlace, amqp_connection
from tests.contracts.broker import BOX, EXCLUSIVE, POLICY, Bench, until

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
async def place(amqp_vhost: str) -> AsyncIterator[RabbitPlace]:
    place = RabbitPlace(amqp_vhost)
    yield place
    await place.close()


@pytest.fixture
async def bench(place: RabbitPlace) -> AsyncIterator[Bench]:
    bench = Bench(place)
    await bench.open()
    yield bench
    await bench.broker.close()


@pytest.fixture
async def operator(amqp_vhost: str) -> AsyncIterator[Channel]:
    """Somebody else in the same virtual host."""
    connection = await amqp_connection(amqp_vhost)
    channel = connection.channel(on_closed=lambda error: None)
    await channel.open()
    yield channel
    await connection.close()


def names(place: RabbitPlace) -> Names:
    return Names(place.options.prefix)


def ids(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last + 1)]


# Publishing


async def test_a_returned_message_is_published_again_in_its_order(
    bench: Bench, place: RabbitPlace, operator: Channel
) -> None:
    await bench.put_many(1)
    await operator.delete_queue(names(place).queue(BOX))
    await bench.put_many(50)
    reader, _ = await bench.read()
    assert await reader.has(50) == ids(2, 51)


async def test_messages_behind_the_one_that_makes_the_mailbox_wait_for_it(bench: Bench) -> None:
    await bench.put_many(100, "ui/456/new")
    reader, _ = await bench.read(address="ui/456/new")
    assert await reader.has(100) == ids(1, 100)


async def test_without_a_confirm_nothing_is_safe_and_no_more_than_a_thousand_wait(
    bench: Bench, place: RabbitPlace
) -> None:
    await bench.put()
    proxy = place.proxies[bench.broker]
    proxy.hold()
    results = [bench.start() for _ in range(1000)]
    broker = bench.broker
    assert isinstance(broker, RabbitBroker)
    await until(lambda: broker.publisher.room(1) is not None)  # no confirm comes any more
    assert not any(result.done() for result in results)
    assert (await bench.put()).refused[BOX].code == "busy"
    proxy.heal()
    assert not any(result.refused for result in await asyncio.gather(*results))
    assert not (await bench.put()).refused


async def test_no_more_than_eight_megabytes_wait(bench: Bench, place: RabbitPlace) -> None:
    await bench.put()
    proxy = place.proxies[bench.broker]
    proxy.hold()
    policy = MailboxPolicy(max_bytes=0)
    results = [bench.start(policy=policy, body=bytes(1 << 20)) for _ in range(9)]
    assert results[8].result().refused[BOX].code == "busy"
    proxy.heal()
    assert not any(result.refused for result in await asyncio.gather(*results[:8]))


# Reading


async def test_many_that_come_back_keep_their_order(bench: Bench, place: RabbitPlace) -> None:
    """RabbitMQ 3.10 loses it when more than 32 are on their way back at once."""
    await bench.put_many(200)
    reader, subscription = await bench.read(credit=120)
    await reader.has(120)
    subscription.close()
    await bench.has_waiting(200)
    async with bench.another(place) as other:
        again, _ = await bench.read(credit=200, broker=other)
        assert await again.has(200) == ids(1, 200)


async def test_a_foreign_message_ends_and_disturbs_nobody(bench: Bench, place: RabbitPlace, operator: Channel) -> None:
    await bench.put()
    own = names(place)
    properties = encode_properties(Properties(content_type="application/python-pickle", headers={"sr": b"\x80\x04"}))
    exchange, key = own.exchange(BOX).encode(), own.routing_key(BOX).encode()
    operator.publish(exchange, key, properties, b"\x80\x04K\x01.")
    operator.publish(exchange, key, encode_properties(Properties()), b"hello")
    await bench.has_waiting(3)
    await bench.put()
    reader, _ = await bench.read()
    assert await reader.has(2) == ids(1, 2)
    await bench.has_ended(("foreign", End.FAILED, "foreign"), ("foreign", End.FAILED, "foreign"))


async def test_a_foreign_dead_letter_ends_too(bench: Bench, place: RabbitPlace, operator: Channel) -> None:
    operator.publish(names(place).dead.encode(), b"ui/456/x", encode_properties(Properties()), b"hello")
    await bench.has_ended(("foreign", End.FAILED, "foreign"))


async def test_a_mailbox_whose_queue_is_deleted_is_read_again(
    bench: Bench, place: RabbitPlace, operator: Channel
) -> None:
    reader, _ = await bench.read()
    await bench.put()
    await reader.has(1)
    assert isinstance(bench.broker, RabbitBroker)
    queue, topology = names(place).queue(BOX), bench.broker.topology
    await operator.delete_queue(queue)
    while not ((state := await topology.state(queue)) and state.consumers):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await bench.put()
    assert await reader.has(2) == ids(1, 2)


async def test_a_queue_with_other_arguments_is_an_error_that_names_them(
    bench: Bench, place: RabbitPlace, operator: Channel
) -> None:
    await operator.declare_queue(names(place).queue(BOX), durable=True, arguments=QUORUM)
    result = await bench.put(BOX, "ui/456/other")
    assert set(result.refused) == {BOX}
    error = result.refused[BOX]
    assert "[endpoints.ui]" in error.message
    assert "max_messages" in error.message
    with pytest.raises(StorageError, match=r"endpoints\.ui"):
        await bench.read()
    assert not (await bench.put("ui/456/other")).refused


async def test_priority_lanes_have_the_reader_of_their_mailbox(bench: Bench, place: RabbitPlace) -> None:
    async with bench.another(place) as other:
        here, one = await bench.read(policy=EXCLUSIVE)
        there, two = await bench.read(policy=EXCLUSIVE, broker=other)
        for priority in (4, 9, 0):
            await bench.put(policy=EXCLUSIVE, priority=priority)
        await until(lambda: sorted(here.ids) == ids(1, 3))
        one.close()
        await until(lambda: sorted(there.ids) == ids(1, 3))
        await bench.put(policy=EXCLUSIVE, priority=9)
        await until(lambda: len(there.entries) == 4)
        assert here.ids == here.ids[:3]
        other.ack(there.entries)
        two.close()


async def test_nobody_holds_a_lane_s_token_for_too_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ closes the channel of who does."""
    monkeypatch.setattr("smart_router.brokers.rabbitmq_reading.TOKEN_HELD", 0.05)
    reader, _ = await bench.read(policy=EXCLUSIVE)
    await bench.put(priority=9, policy=EXCLUSIVE)
    await reader.has(1)
    assert isinstance(bench.broker, RabbitBroker)
    (sub,) = bench.broker.boxes[BOX].subs
    first = sub.taps[9].token
    await until(lambda: sub.taps[9].token not in (None, first))
    await bench.put(priority=9, policy=EXCLUSIVE)
    assert await reader.has(2) == ids(1, 2)


async def test_dead_letters_are_taken_again_when_their_queue_was_deleted(
    bench: Bench, place: RabbitPlace, operator: Channel
) -> None:
    assert isinstance(bench.broker, RabbitBroker)
    dead, topology = names(place).dead, bench.broker.topology
    await operator.delete_queue(dead)
    while not ((state := await topology.state(dead)) and state.consumers):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await bench.put(expires_at=place.clock.wall_ms() + 20)
    await bench.has_ended(("m1", End.EXPIRED, "ttl"))


async def test_lanes_are_found_by_a_node_that_starts_later(bench: Bench) -> None:
    await bench.put(priority=9)
    await bench.put(priority=1)
    await bench.again()
    reader, _ = await bench.read()
    assert await reader.has(2) == ids(1, 2)


# Time


async def test_rabbitmq_expires_what_nobody_reads(bench: Bench, place: RabbitPlace) -> None:
    await bench.put(expires_at=place.clock.wall_ms() + 50)
    await bench.has_ended(("m1", End.EXPIRED, "ttl"))


async def test_what_stands_behind_a_head_without_ttl_is_looked_at_when_it_is_delivered(bench: Bench) -> None:
    await bench.put()
    await bench.put(expires_at=bench.place.clock.wall_ms() + 20_000)
    bench.advance(30)
    reader, _ = await bench.read()
    await bench.has_ended(("m2", End.EXPIRED, "ttl"))
    assert reader.ids == ["m1"]


async def test_a_dead_letter_stays_until_it_is_remembered(bench: Bench, place: RabbitPlace) -> None:
    ended: list[str] = []
    place.on_end = bench.broker.on_end = lambda entry, end, reason: ended.append(reason)
    await bench.put_many(2, policy=msgspec.structs.replace(POLICY, max_messages=1))
    await until(lambda: ended == ["overflow"])
    await bench.crash()
    await until(lambda: ended == ["overflow", "overflow"])


async def test_a_message_that_comes_while_the_mailbox_goes_is_not_lost(bench: Bench, place: RabbitPlace) -> None:
    assert isinstance(bench.broker, RabbitBroker)
    async with bench.another(place) as other:
        for turn in range(10):
            box = f"ui/456/box{turn}"
            await bench.put(box, broker=other)
            reader, subscription = await bench.read(address=box)
            await reader.has(1)
            bench.broker.ack(reader.entries)
            subscription.close()
            await asyncio.gather(*bench.broker.boxes[box].leaving, return_exceptions=True)
            bench.advance(901)
            results = []
            for _ in range(20):
                results.append(bench.start(box, broker=other))
                await asyncio.sleep(0)
            assert not any(result.refused for result in await asyncio.gather(*results))
            again, _ = await bench.read(address=box)
            await again.has(20)


# Broker away


async def test_what_had_no_confirm_is_published_again_with_its_id(bench: Bench, place: RabbitPlace) -> None:
    reader, _ = await bench.read(credit=1000)
    await bench.put()
    results = [bench.start() for _ in range(200)]
    for connection in place.connections[bench.broker]:
        connection.reset()
    assert not any(result.refused for result in await asyncio.gather(*results))
    await until(lambda: len(set(reader.ids)) == 201)
    again = [entry for entry in reader.entries if entry.message.id in reader.ids[: reader.entries.index(entry)]]
    assert all(entry.redelivered for entry in again)
    first = list(dict.fromkeys(reader.ids))
    assert first == ids(1, 201)


async def test_a_reader_keeps_what_it_has_over_an_outage(bench: Bench, place: RabbitPlace) -> None:
    reader, _ = await bench.read(credit=3, policy=EXCLUSIVE)
    await bench.put_many(5, policy=EXCLUSIVE)
    await reader.has(3)
    for connection in place.connections[bench.broker]:
        connection.reset()
    await until(lambda: bool(bench.broker.trouble()))
    bench.broker.ack(reader.entries[:1])
    result = await bench.put(policy=EXCLUSIVE)
    assert result.refused[BOX].code == "broker_away"
    assert result.refused[BOX].temporary
    await until(lambda: not bench.broker.trouble())
    await bench.has_waiting(2)
    assert reader.ids == ids(1, 3)
    bench.broker.ack(reader.entries[1:])
    await bench.again()
    late, _ = await bench.read(policy=EXCLUSIVE)
    assert await late.has(2) == ids(4, 5)
    await bench.has_waiting(0)


async def test_refused_when_rabbitmq_does_not_come_back(
    bench: Bench, place: RabbitPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smart_router.brokers.rabbitmq_publisher.PATIENCE", 0.1)
    await bench.put()
    place.proxies[bench.broker].target = ("127.0.0.1", 1)
    place.proxies[bench.broker].hold()
    results = [bench.start() for _ in range(3)]
    for connection in place.connections[bench.broker]:
        connection.reset()
    refused = [result.refused[BOX] for result in await asyncio.gather(*results)]
    assert {error.code for error in refused} == {"broker_away"}
    place.proxies[bench.broker].heal()
    place.give_storage_back(bench.broker)
    await until(lambda: not bench.broker.trouble())
    assert not (await bench.put()).refused
