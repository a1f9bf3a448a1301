"""Channels on a real RabbitMQ: order, confirms, returns, consumers, errors."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from smart_router.amqp import (
    Channel,
    ChannelClosed,
    Message,
    Properties,
    QueueState,
    decode_properties,
    encode_properties,
)
from smart_router.errors import BrokerAway, StorageError
from tests.amqp.bench import PROPERTIES, Line, User, using
from tests.fakes.clock import until
from tests.services import unique


async def take(line: Line, queue: str) -> Message:
    """The next one, when it is there."""
    async with asyncio.timeout(10):
        while True:
            message = await line.channel.get(queue)
            if message is not None:
                return message


async def test_publish_and_confirm_pipelined(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)
        await line.channel.confirm_select()
        assert [line.send(queue, b"%d" % number) for number in range(2000)] == list(range(1, 2001))
        await line.confirmed(2000)
        confirmed = 0
        for number, multiple, ok in line.confirms:
            assert ok
            confirmed = number if multiple else confirmed + 1
        assert confirmed == 2000
        assert (await line.channel.declare_queue(queue, passive=True, exclusive=True)).messages == 2000
        assert user.connection.statistics().writes < 100


async def test_what_nobody_takes_is_returned_before_its_confirm(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        await line.channel.confirm_select()
        nowhere = unique("nowhere").encode()
        line.channel.publish(b"", nowhere, PROPERTIES, b"lost", mandatory=True)
        await line.confirmed(1)
        assert line.returns == [(312, "NO_ROUTE", b"", nowhere, PROPERTIES, b"lost")]


@pytest.mark.parametrize("size", [0, 1, 131063, 131064, 131065, 1_000_000])
async def test_bodies_of_any_size_and_properties_come_back(amqp: str, size: int) -> None:
    properties = encode_properties(
        Properties(
            delivery_mode=2,
            message_id="id",
            type="talk",
            timestamp=1_700_000_000,
            expiration="60000",
            headers={"from": "ui/1/ä", "n": 2**40, "raw": b"\x00\xff", "list": [1, None, True], "deep": {"x": 1.5}},
        )
    )
    body = bytes(number % 251 for number in range(size))
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)
        line.channel.publish(b"", queue.encode(), properties, body)
        message = await take(line, queue)
        assert message.body == body
        assert (message.exchange, message.routing_key, message.messages) == (b"", queue.encode(), 0)
        assert decode_properties(message.properties) == decode_properties(properties)
        assert await line.channel.get(queue) is None


async def test_deliveries_come_in_order_and_acknowledged_ones_never_again(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)
        bodies = [b"%d" % number for number in range(100)]
        line.send(queue, *bodies)
        await line.channel.consume(queue, line.deliver)
        assert await line.has(100) == bodies
        assert [tag for tag, _, _ in line.deliveries] == list(range(1, 101))
        line.channel.ack(50, multiple=True)
        line.channel.ack(60)
        await line.channel.close()
        again = await user.line()
        await again.channel.consume(queue, again.deliver)
        kept = bodies[50:59] + bodies[60:]
        assert await again.has(len(kept)) == kept
        assert all(redelivered for _, redelivered, _ in again.deliveries)


async def test_nack_and_reject(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        dead = await user.queue(line)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        queue = await user.queue(line, arguments=arguments)
        line.send(queue, b"a", b"b", b"c", b"d")
        for _ in range(4):
            await take(line, queue)
        line.channel.reject(1)
        line.channel.nack(2, requeue=False)
        line.channel.nack(4, multiple=True)
        again = [await take(line, queue) for _ in range(2)]
        assert [(message.body, message.redelivered) for message in again] == [(b"c", True), (b"d", True)]
        buried = [await take(line, dead) for _ in range(2)]
        assert [message.body for message in buried] == [b"a", b"b"]
        headers = decode_properties(buried[0].properties).headers
        assert headers is not None
        assert headers["x-death"][0]["reason"] == "rejected"


async def test_prefetch_is_for_each_consumer(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)
        await line.channel.qos(3)
        await line.channel.consume(queue, line.deliver)
        line.send(queue, *[b"x"] * 10)
        await line.has(3)
        assert (await line.channel.declare_queue(queue, passive=True, exclusive=True)).messages == 7
        assert len(line.deliveries) == 3
        line.channel.ack(2, multiple=True)
        await line.has(5)


async def test_after_cancel_nothing_comes(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)
        tag = await line.channel.consume(queue, line.deliver)
        line.send(queue, b"1")
        await line.has(1)
        await line.channel.cancel(tag)
        line.send(queue, b"2")
        await line.channel.declare_queue(queue, passive=True, exclusive=True)
        assert line.bodies == [b"1"]
        line.channel.ack(1)
        assert (await line.channel.declare_queue(queue, passive=True, exclusive=True)) == QueueState(queue, 1, 0)


async def test_a_consumer_that_raises_costs_its_own_message_only(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        queue = await user.queue(line)

        def fail(tag: int, again: bool, exchange: bytes, key: bytes, properties: bytes, body: bytes) -> None:
            line.deliver(tag, again, exchange, key, properties, body)
            if body == b"bad":
                raise ZeroDivisionError

        await line.channel.consume(queue, fail)
        line.send(queue, b"good", b"bad", b"fine")
        assert await line.has(3) == [b"good", b"bad", b"fine"]
        assert user.connection.up
        assert not line.closed


async def test_a_consumer_whose_queue_goes_is_told(amqp: str) -> None:
    async with using(amqp) as user:
        line, other = await user.line(), await user.line()
        queue = await user.queue(line)
        tag = await line.channel.consume(queue, line.deliver)
        await other.channel.delete_queue(queue)
        await until(lambda: line.cancels)
        assert line.cancels == [tag]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (404, lambda line, queue: line.channel.declare_queue(unique("none"), passive=True)),
        (404, lambda line, queue: line.channel.consume(unique("none"), line.deliver)),
        (406, lambda line, queue: line.channel.declare_queue(queue, exclusive=True, arguments={"x-max-length": 5})),
        (406, lambda line, queue: line.channel.delete_queue(queue, if_empty=True)),
        (403, lambda line, queue: line.channel.declare_queue("amq.mine")),
        (404, lambda line, queue: line.channel.bind(queue, unique("none"), "")),
    ],
)
async def test_a_refused_call_closes_the_channel_which_may_be_opened_again(
    amqp: str, code: int, wrong: Callable[[Line, str], Awaitable[object]]
) -> None:
    async with using(amqp) as user:
        line, other = await user.line(), await user.line()
        queue = await user.queue(line)
        await line.channel.qos(1)
        line.send(queue, b"1", b"2")
        await line.channel.consume(queue, line.deliver)
        await line.has(1)
        with pytest.raises(ChannelClosed) as caught:
            await wrong(line, queue)
        assert caught.value.reply_code == code
        assert caught.value.reply_text
        assert [error for error in line.closed if isinstance(error, ChannelClosed)] == [caught.value]
        assert not line.channel.is_open
        with pytest.raises(BrokerAway):
            line.channel.publish(b"", b"x", PROPERTIES, b"")
        with pytest.raises(BrokerAway):
            await line.channel.qos(1)
        line.channel.ack(1)
        await other.channel.qos(1)
        await line.channel.open()
        await line.channel.consume(queue, line.deliver)
        assert await line.has(3) == [b"1", b"1", b"2"]
        assert user.connection.up


async def test_calls_behind_a_refused_one_fail_too(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        results = await asyncio.gather(
            line.channel.qos(1),
            line.channel.declare_queue(unique("none"), passive=True),
            line.channel.qos(2),
            return_exceptions=True,
        )
        assert results[0] is None
        assert [type(result) for result in results[1:]] == [ChannelClosed, ChannelClosed]
        await line.channel.open()
        await line.channel.qos(1)


async def test_an_unknown_delivery_tag_closes_the_channel(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        line.channel.ack(77)
        await until(lambda: line.closed)
        assert isinstance(line.closed[0], ChannelClosed)
        assert line.closed[0].reply_code == 406


async def test_goodbye_and_a_refusal_at_the_same_time(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        for _ in range(20):
            refused = asyncio.create_task(line.channel.declare_queue(unique("none"), passive=True))
            await asyncio.sleep(0)
            await line.channel.close()
            with pytest.raises(StorageError):
                await refused
            await line.channel.open()
        await line.channel.qos(1)
        assert user.connection.statistics().channels == 1
        assert line.closed == []


async def test_a_call_that_nobody_waits_for_any_more_disturbs_no_other(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        call = asyncio.create_task(line.channel.qos(1))
        await asyncio.sleep(0)
        call.cancel()
        assert (await line.channel.declare_queue("", exclusive=True)).messages == 0
        other = user_line(user)
        opening = asyncio.create_task(other.open())
        await asyncio.sleep(0)
        opening.cancel()
        await other.open()
        await other.qos(1)


def user_line(user: User) -> Channel:
    return user.connection.channel(on_closed=lambda error: None)


async def test_as_many_channels_as_agreed(amqp: str) -> None:
    async with using(f"{amqp}?channel_max=3") as user:
        lines = [await user.line() for _ in range(3)]
        extra = user_line(user)
        with pytest.raises(StorageError, match="channel_max"):
            await extra.open()
        await lines[1].channel.close()
        await extra.open()
        await lines[2].channel.qos(1)
        assert user.connection.statistics().channels == 3


async def test_exchanges_and_bindings(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        channel = line.channel
        queue = await user.queue(line)
        inner, outer = unique("test-inner"), unique("test-outer")
        await channel.declare_exchange(inner, "topic", auto_delete=True)
        await channel.declare_exchange(outer, "fanout", auto_delete=True)
        await channel.declare_exchange(outer, "fanout", passive=True)
        await channel.bind_exchange(inner, outer, "")
        await channel.bind(queue, inner, "a.*")
        await channel.consume(queue, line.deliver)
        channel.publish(outer.encode(), b"a.b", PROPERTIES, b"1")
        channel.publish(outer.encode(), b"b.b", PROPERTIES, b"2")
        channel.publish(inner.encode(), b"a.c", PROPERTIES, b"3")
        assert await line.has(2) == [b"1", b"3"]
        await channel.unbind(queue, inner, "b.*")
        await channel.unbind_exchange(inner, outer, "x")
        await channel.delete_exchange(outer)
        await channel.delete_exchange(inner)
        await channel.delete_exchange(inner)


async def test_purge_and_delete_say_how_many(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        await line.channel.confirm_select()
        queue = await user.queue(line)
        line.send(queue, b"1", b"2")
        await line.confirmed(2)
        assert await line.channel.purge(queue) == 2
        line.send(queue, b"3")
        await line.confirmed(3)
        assert await line.channel.delete_queue(queue) == 1
        assert await line.channel.delete_queue(queue) == 0


async def test_what_does_not_fit_is_refused_before_anything_is_written(amqp: str) -> None:
    async with using(amqp) as user:
        line = await user.line()
        with pytest.raises(ValueError, match="255"):
            line.channel.publish(b"", b"x" * 256, PROPERTIES, b"")
        with pytest.raises(ValueError, match="255"):
            await line.channel.consume("x" * 256, line.deliver)
        with pytest.raises(ValueError, match="no AMQP type"):
            await line.channel.declare_queue("q", arguments={"x": object()})
        name = unique("ä~") + "x" * 200
        assert (await line.channel.declare_queue(name, exclusive=True)).name == name
        assert line.channel.is_open
