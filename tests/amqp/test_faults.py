"""The network between us and a real RabbitMQ: cut, reset, silent, slow, cut in any frame."""

import asyncio

import pytest
from structlog.testing import capture_logs

from faults.amqp_frames import CutAt, Place
from faults.proxy import Connection, Proxy, Silence
from smart_router.amqp import Properties, encode_properties
from smart_router.errors import BrokerAway, StorageError
from tests.amqp.bench import Line, User, place, using, with_place
from tests.fakes.clock import until
from tests.services import StartRabbit, unique


class Taker:
    """Consumes from a queue whenever it is up."""

    def __init__(self, queue: str, acknowledge: bool = False) -> None:
        self.queue = queue
        self.line: Line | None = None
        self._acknowledge = acknowledge

    async def prepare(self, user: User) -> None:
        if self.line is None:
            self.line = Line(user.connection)
        channel = self.line.channel
        await channel.open()
        await channel.confirm_select()
        await channel.declare_queue(self.queue, durable=True, arguments={"x-expires": 60_000})
        await channel.consume(self.queue, self._deliver)

    def _deliver(self, tag: int, again: bool, exchange: bytes, key: bytes, properties: bytes, body: bytes) -> None:
        assert self.line is not None
        self.line.deliver(tag, again, exchange, key, properties, body)
        if self._acknowledge:
            self.line.channel.ack(tag)


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_lost_connection_comes_back_with_its_consumers(amqp: str, end: str) -> None:
    taker = Taker(unique("test"))
    async with Proxy(place(amqp)) as proxy, using(with_place(amqp, proxy.port), taker.prepare) as user:
        line = taker.line
        assert line is not None
        line.send(taker.queue, b"1")
        await line.has(1)
        with capture_logs() as logs:
            call = asyncio.create_task(line.channel.declare_queue(taker.queue, passive=True))
            (connection,) = proxy.connections
            connection.hold()
            await asyncio.sleep(0)
            getattr(connection, end)()
            with pytest.raises(BrokerAway):
                await call
            await until(lambda: line.closed)
            assert user.connection.trouble()
            assert not user.connection.writable
            with pytest.raises(BrokerAway):
                line.channel.publish(b"", b"q", b"\0\0", b"")
            line.channel.ack(1)  # of before: forgotten
            await until(lambda: user.ups == 2)
        assert [log["event"] for log in logs] == ["amqp_away", "amqp_back"]
        assert (len(line.closed), len(user.downs), user.connection.trouble()) == (1, 1, "")
        assert await line.has(2) == [b"1", b"1"]
        tag, redelivered, _ = line.deliveries[-1]
        assert (tag, redelivered) == (1, True)
        line.channel.ack(1)
        assert line.send(taker.queue, b"2") == 1
        await line.confirmed(1)
        await line.channel.delete_queue(taker.queue)


async def test_another_host_takes_over(amqp: str) -> None:
    async with Proxy(place(amqp)) as one, Proxy(place(amqp)) as two:
        taker = Taker(unique("test"))
        url = with_place(amqp, one.port).replace(f":{one.port}/", f":{one.port},127.0.0.1:{two.port}/")
        async with using(url, taker.prepare) as user:
            assert (len(one.connections), len(two.connections)) == (1, 0)
            one.target = ("127.0.0.1", 1)
            (connection,) = one.connections
            connection.reset()
            await until(lambda: user.ups == 2)
            assert len(two.connections) == 1
            one.target = place(amqp)
            (connection,) = two.connections
            connection.reset()
            await until(lambda: user.ups == 3)
            line = taker.line
            assert line is not None
            await line.channel.delete_queue(taker.queue)


async def test_what_is_to_be_done_after_connecting_is_done_until_it_works(amqp: str) -> None:
    """A refusal there, or a fault of ours, is an outage: tried again, more and more slowly, told once."""
    fails: list[Exception] = []

    async def prepare(user: User) -> None:
        if fails:
            raise fails.pop(0)

    async with Proxy(place(amqp)) as proxy, using(with_place(amqp, proxy.port), prepare) as user:
        fails += [StorageError("not yet"), ZeroDivisionError(), StorageError("nearly")]
        with capture_logs() as logs:
            (connection,) = proxy.connections
            connection.reset()
            await until(lambda: "not yet" in user.connection.trouble())
            await until(lambda: user.ups == 2)
        assert [log["event"] for log in logs] == ["amqp_away", "amqp_callback_failed", "amqp_back"]
        assert user.connection.statistics().outages == 1
        assert user.connection.trouble() == ""


async def test_silence_is_noticed_by_the_heartbeats(amqp: str) -> None:
    async with Proxy(place(amqp)) as proxy, using(with_place(amqp, proxy.port, "heartbeat=1")) as user:
        (connection,) = proxy.connections
        connection.silence = Silence.BOTH
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: user.downs)
        assert 1.0 <= loop.time() - began < 5.0
        assert "silent" in user.downs[0]
        await until(lambda: user.ups == 2)


async def test_an_idle_connection_is_kept_by_the_heartbeats(amqp: str) -> None:
    """RabbitMQ would close it after two seconds without a byte of ours."""
    seen = CutAt()
    async with (
        Proxy(place(amqp), prepare=seen.watch) as proxy,
        using(with_place(amqp, proxy.port, "heartbeat=1")) as user,
    ):
        await until(lambda: seen.seen["TO_SERVER heartbeat"] >= 6 and seen.seen["TO_CLIENT heartbeat"] >= 3)
        assert (user.ups, user.downs) == (1, [])


async def test_byte_by_byte(amqp: str) -> None:
    def trickle(connection: Connection) -> None:
        connection.trickle = True

    async with Proxy(place(amqp), prepare=trickle) as proxy, using(with_place(amqp, proxy.port)) as user:
        line = await user.line()
        queue = await user.queue(line)
        await line.channel.confirm_select()
        await line.channel.consume(queue, line.deliver)
        bodies = [b"x" * size for size in (0, 1, 100, 300)]
        line.send(queue, *bodies)
        assert await line.has(4) == bodies
        await line.confirmed(4)


FRAMES = [
    "TO_SERVER protocol-header",
    "TO_CLIENT Connection.Start",
    "TO_SERVER Connection.StartOk",
    "TO_CLIENT Connection.Tune",
    "TO_SERVER Connection.Open",
    "TO_CLIENT Connection.OpenOk",
    "TO_SERVER Channel.Open",
    "TO_CLIENT Channel.OpenOk",
    "TO_SERVER Queue.Declare",
    "TO_CLIENT Queue.DeclareOk",
    "TO_SERVER Basic.Consume",
    "TO_CLIENT Basic.ConsumeOk",
    "TO_SERVER Basic.Publish",
    "TO_SERVER header",
    "TO_SERVER body",
    "TO_CLIENT Basic.Ack",
    "TO_CLIENT Basic.Deliver",
    "TO_CLIENT header",
    "TO_CLIENT body",
    "TO_SERVER Basic.Ack",
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("where", ["before", "middle", "after"])
async def test_cut_at_any_frame_nothing_confirmed_is_lost(amqp: str, frame: str, where: Place) -> None:
    """Publishes until all are confirmed, again after each outage; takes and acknowledges until all have come."""
    taker = Taker(unique("test"), acknowledge=True)
    cut = CutAt(frame, where)
    wanted = [b"%d" % number for number in range(20)]
    async with using(amqp) as plain, Proxy(place(amqp), prepare=cut.watch) as proxy:
        user = User(with_place(amqp, proxy.port), taker.prepare)
        await open_at_last(user)
        line = taker.line
        assert line is not None
        await publish_all(user, line, taker.queue, wanted)
        await until(lambda: set(line.bodies) == set(wanted))
        await until(cut.happened.is_set)
        await until(lambda: not user.connection.trouble())
        await user.connection.close()
        last = await plain.line()
        await last.channel.delete_queue(taker.queue)
        assert [error for error in line.closed if not isinstance(error, BrokerAway)] == []


async def open_at_last(user: User) -> None:
    """The first attempt may be the one that is cut."""
    try:
        await user.connection.open()
    except BrokerAway:
        await user.connection.open()


async def publish_all(user: User, line: Line, queue: str, wanted: list[bytes]) -> None:
    """What an outage left unconfirmed goes again."""
    while wanted:
        await until(lambda: not user.connection.trouble())
        line.confirms.clear()
        outages = len(user.downs)
        last = line.send(queue, *wanted)
        await until(lambda outages=outages, last=last: len(user.downs) > outages or confirmed(line) == last)  # type: ignore[misc]
        wanted = wanted[confirmed(line) :]


def confirmed(line: Line) -> int:
    """So many of the first; one queue confirms in order."""
    return max((number for number, _, ok in line.confirms if ok), default=0)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_broker_that_is_killed_and_started_again(own_rabbit: StartRabbit) -> None:
    """What was confirmed is there again; the connection comes back by itself; one log line for the whole outage."""
    rabbit = await asyncio.to_thread(own_rabbit)
    taker = Taker("kept", acknowledge=False)
    async with using(rabbit.url, taker.prepare) as user:
        line = taker.line
        assert line is not None
        message = encode_properties(Properties(delivery_mode=2))
        for number in range(100):
            line.channel.publish(b"", b"kept", message, b"%d" % number)
        await until(lambda: confirmed(line) == 100)
        with capture_logs() as logs:
            rabbit.kill()
            await until(lambda: user.downs)
            await asyncio.to_thread(rabbit.start)
            async with asyncio.timeout(60):
                while user.ups < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert [log["event"] for log in logs] == ["amqp_away", "amqp_back"]
        await until(lambda: len(line.deliveries) >= 200)
        again = line.deliveries[-100:]
        assert [body for _, _, body in again] == [b"%d" % number for number in range(100)]
