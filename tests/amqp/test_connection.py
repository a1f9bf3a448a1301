"""From the handshake to the end, on a real RabbitMQ and on what is none."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from pamqp import commands
from structlog.testing import capture_logs

from faults.proxy import Proxy, Silence
from smart_router.errors import BrokerAway, ConfigError, RouterError, StorageError
from tests.amqp.bench import PROPERTIES, User, place, scripted_broker, using, with_place
from tests.fakes.clock import until
from tests.protocols.amqp_frames import marshal
from tests.protocols.test_amqp_connection import OPEN_OK, START, TUNE
from tests.services import StartRabbit


async def refused(url: str) -> RouterError:
    """What `open` raises; nothing is left behind."""
    user = User(url)
    with pytest.raises((ConfigError, BrokerAway)) as caught:
        await user.connection.open()
    assert not user.connection.up
    assert user.downs == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("amqp")]
    return caught.value


async def test_handshake(amqp: str) -> None:
    async with using(amqp) as user:
        connection = user.connection
        assert (user.ups, connection.up, connection.writable, connection.trouble()) == (1, True, True, "")
        assert connection.server is not None
        assert connection.server.product == "RabbitMQ"
        assert connection.server.version >= (3, 8)
        assert "basic.nack" in connection.server.capabilities
    assert not connection.up
    assert user.downs == []
    assert connection.trouble().endswith("closed")


async def test_wrong_password(amqp: str) -> None:
    host, port = place(amqp)
    error = await refused(f"amqp://guest:s3cret@{host}:{port}/")
    assert isinstance(error, ConfigError)
    assert error.message.startswith("broker.url: ")
    assert "`guest`" in error.message
    assert "s3cret" not in error.message


async def test_missing_virtual_host(amqp: str) -> None:
    host, port = place(amqp)
    error = await refused(f"amqp://guest:guest@{host}:{port}/no-such-host")
    assert isinstance(error, ConfigError)
    assert "virtual host" in error.message
    assert "no-such-host" in error.message


async def test_nobody_there(free_port: int) -> None:
    error = await refused(f"amqp://127.0.0.1:{free_port}/")
    assert isinstance(error, BrokerAway)
    assert f"127.0.0.1:{free_port} cannot be reached" in error.message
    error = await refused("amqp://no-such-host.invalid/")
    assert isinstance(error, BrokerAway)


async def test_several_hosts_are_tried_in_turn(amqp: str, free_port: int) -> None:
    host, port = place(amqp)
    async with using(f"amqp://guest:guest@127.0.0.1:{free_port},{host}:{port}/") as user:
        assert user.connection.up
    error = await refused(f"amqp://guest:wrong@{host}:{port},127.0.0.1:{free_port}/")
    assert isinstance(error, ConfigError)


@asynccontextmanager
async def speaking(data: bytes) -> AsyncIterator[str]:
    """What answers everything with that, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "no RabbitMQ"),
        (b"-ERR unknown command 'AMQP'\r\n", "no RabbitMQ"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "no RabbitMQ|closed"),
        (b"AMQP\x00\x01\x00\x00", "another version"),
    ],
)
async def test_what_is_no_rabbitmq(data: bytes, match: str) -> None:
    async with speaking(data) as url:
        with pytest.raises((ConfigError, BrokerAway), match=match):
            await User(url).connection.open()


async def test_who_hangs_up_is_away() -> None:
    async with speaking(b"") as url:
        assert isinstance(await refused(url), BrokerAway)


async def test_who_never_answers_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await refused(f"amqp://127.0.0.1:{silent.getsockname()[1]}/?connection_timeout=50")
    assert isinstance(error, BrokerAway)
    assert "no answer in time" in error.message


@pytest.mark.parametrize(
    ("properties", "match"),
    [
        ({"product": "LavinMQ", "version": "1.2"}, "LavinMQ, not RabbitMQ"),
        ({"product": "RabbitMQ", "version": "2.0", "capabilities": {"basic.nack": True}}, "too old"),
        ({}, "something unknown"),
    ],
)
async def test_another_broker_is_refused(properties: dict[str, object], match: str) -> None:
    start = marshal(commands.Connection.Start(server_properties=properties), 0)  # type: ignore[arg-type]
    async with scripted_broker(start=start) as (url, _):
        error = await refused(url)
    assert isinstance(error, ConfigError)
    assert match in error.message


async def test_what_on_up_raises_comes_out_of_open(amqp: str) -> None:
    async def fail(user: User) -> None:
        raise StorageError("the queue is another's")

    user = User(amqp, fail)
    with pytest.raises(StorageError, match="another's"):
        await user.connection.open()
    assert not user.connection.up


async def test_a_broken_frame_ends_the_connection_and_it_comes_back() -> None:
    async with scripted_broker() as (url, writers), using(url) as user:
        channel = user.connection.channel(on_closed=lambda error: None)
        writers[0].write(b"\x01garbage" * 10)
        with pytest.raises(BrokerAway):
            await channel.open()
        await until(lambda: user.downs)
        assert "AMQP" in user.downs[0]
        await until(lambda: user.ups == 2)
        assert user.connection.trouble() == ""


async def test_a_forced_end_is_told_with_the_brokers_words() -> None:
    forced = marshal(commands.Connection.Close(320, "CONNECTION_FORCED - closed\nvia management", 0, 0), 0)
    async with scripted_broker() as (url, writers), using(url) as user:
        with capture_logs() as logs:
            writers[0].write(forced)
            await until(lambda: user.ups == 2)
        assert user.downs == ["RabbitMQ ended the connection (320): CONNECTION_FORCED - closed?via management"]
        assert [line["event"] for line in logs] == ["amqp_away", "amqp_back"]
        assert logs[0]["reason"] == user.downs[0]
        assert user.connection.statistics().outages == 1


async def test_an_alarm_stops_publishing() -> None:
    blocked, unblocked = (
        marshal(commands.Connection.Blocked("low on disk"), 0),
        marshal(commands.Connection.Unblocked(), 0),
    )
    channel_open = marshal(commands.Channel.OpenOk(), 1)
    async with scripted_broker() as (url, writers), using(url) as user:
        channel = user.connection.channel(on_closed=lambda error: None)
        opening = asyncio.create_task(channel.open())
        await asyncio.sleep(0)
        writers[0].write(channel_open)
        await opening
        assert user.writable == 1
        writers[0].write(blocked)
        await until(lambda: not user.connection.writable)
        assert "low on disk" in user.connection.trouble()
        with pytest.raises(StorageError, match="low on disk") as caught:
            channel.publish(b"", b"q", PROPERTIES, b"")
        assert (caught.value.code, caught.value.temporary) == ("busy", True)
        channel.ack(1)
        writers[0].write(unblocked)
        await until(lambda: user.connection.writable)
        assert (user.writable, user.connection.trouble()) == (2, "")
        assert channel.publish(b"", b"q", PROPERTIES, b"") == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_memory_alarm_of_a_real_broker(own_rabbit: StartRabbit) -> None:
    rabbit = await asyncio.to_thread(own_rabbit)
    async with using(rabbit.url) as user:
        line = await user.line()
        await line.channel.confirm_select()
        queue = await user.queue(line)
        line.send(queue, b"before")
        await line.confirmed(1)
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0")
        line.send(queue, b"after")
        await until(user.connection.trouble)
        assert "memory" in user.connection.trouble()
        assert len(line.confirms) == 1
        await asyncio.to_thread(rabbit.ctl, "set_vm_memory_high_watermark", "0.4")
        await until(lambda: user.connection.writable)
        await line.confirmed(2)


async def test_a_broker_that_reads_slowly_makes_it_busy_within_bounds(amqp: str) -> None:
    """Two MiB wait at most: one of our turn's write, one of the transport, and what one message overshoots."""
    async with Proxy(place(amqp)) as proxy, using(with_place(amqp, proxy.port)) as user:
        line = await user.line()
        proxy.hold(Silence.TO_SERVER)
        body = b"x" * 10_000
        for _ in range(5_000):
            if user.connection.writable:
                line.channel.publish(b"", b"nowhere", PROPERTIES, body)
            else:
                await asyncio.sleep(0)
        assert not user.connection.writable
        with pytest.raises(StorageError, match="slowly"):
            line.channel.publish(b"", b"nowhere", PROPERTIES, body)
        assert 1 << 20 <= user.connection.statistics().bytes_waiting < (2 << 20) + 20_000
        assert user.connection.trouble() == ""
        before = user.writable
        proxy.heal()
        await until(lambda: user.connection.writable)
        assert user.writable == before + 1
        line.channel.publish(b"", b"nowhere", PROPERTIES, body)
        await line.channel.qos(1)


async def test_what_was_written_has_left_when_it_is_closed(amqp: str) -> None:
    async with using(amqp) as reader:
        taker = await reader.line()
        queue = (await taker.channel.declare_queue("", auto_delete=True)).name
        await taker.channel.consume(queue, taker.deliver, no_ack=True)
        async with using(amqp) as user:
            line = await user.line()
            for number in range(500):
                line.send(queue, b"%d" % number)
        assert await taker.has(500) == [b"%d" % number for number in range(500)]
        assert line.closed == []


async def test_a_broker_that_throws_everybody_out_is_asked_more_and_more_slowly() -> None:
    loop = asyncio.get_running_loop()
    asked: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(loop.time())
        await reader.readexactly(8)
        for piece in (START, TUNE, OPEN_OK):
            writer.write(piece)
        if len(asked) > 1:
            writer.write(marshal(commands.Connection.Close(320, "go away", 0, 0), 0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with using(f"amqp://127.0.0.1:{server.sockets[0].getsockname()[1]}/"):
        await until(lambda: len(asked) == 6)
    server.close()
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 0.2, 0.4, 0.8), strict=True))


async def test_it_may_be_opened_again_and_closed_twice(amqp: str) -> None:
    user = User(amqp)
    for number in (1, 2):
        await user.connection.open()
        line = await user.line()
        await line.channel.qos(1)
        await user.connection.close()
        await user.connection.close()
        assert (user.ups, user.downs, line.closed, line.channel.is_open) == (number, [], [], False)
