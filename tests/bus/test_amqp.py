"""The bus over RabbitMQ against the contract of all buses."""

from collections.abc import AsyncIterator

import pytest

from smart_router.amqp import AmqpUrl, Properties, encode_properties
from smart_router.bus.amqp import BACKLOG, AmqpBus
from smart_router.bus.base import MAX_DATA, Bus
from smart_router.bus.open import make_bus
from smart_router.clock import SystemClock
from smart_router.errors import BrokerAway, ConfigError
from tests.amqp.bench import using
from tests.contracts.bus import BusContract, Place
from tests.fakes.amqp import AmqpWays
from tests.fakes.clock import until
from tests.services import unique

_FOREIGN = encode_properties(Properties(priority=9, type="news", headers={"n": 1}))


class AmqpPlace:
    def __init__(self, ways: AmqpWays, url: str) -> None:
        self.ways = ways
        self.straight = url
        self.prefix = unique("bus")

    def make(self, node: str, installation: str = "") -> Bus:
        url, proxy = self.ways.take()
        bus = AmqpBus(url, node, self.prefix + installation)
        self.ways.give(bus, proxy)
        return bus

    async def cut(self, bus: Bus) -> None:
        self.ways.cut(bus)

    async def heal(self, bus: Bus) -> None:
        self.ways.heal(bus)

    async def meddle(self, bus: Bus) -> int:
        strange = [b"", b"1", b"1 a b", b"2 a news x", b"1 \xff news x", b"1 a \xff x", b"1 a  0", b"\x00" * 100]
        exchange = f"{self.prefix}#bus".encode()
        async with using(self.straight) as user:
            line = await user.line()
            await line.channel.confirm_select()
            for key in (b"all", f"node/{bus.node}".encode()):
                for number, message in enumerate(strange):
                    line.channel.publish(exchange, key, _FOREIGN if number % 2 else b"\x00\x00", message)
            await line.confirmed(2 * len(strange))
        return 2 * len(strange)


@pytest.fixture
async def ways(amqp_vhost: str) -> AsyncIterator[AmqpWays]:
    async with AmqpWays.to(amqp_vhost) as ways:
        yield ways


@pytest.fixture
def place(ways: AmqpWays, amqp_vhost: str) -> AmqpPlace:
    return AmqpPlace(ways, amqp_vhost)


class TestAmqpBus(BusContract):
    @pytest.fixture
    def place(self, ways: AmqpWays, amqp_vhost: str) -> Place:
        return AmqpPlace(ways, amqp_vhost)


class Listening:
    """A bus on which `news` is heard."""

    def __init__(self, bus: Bus) -> None:
        assert isinstance(bus, AmqpBus)
        self.bus = bus
        self.heard: list[bytes] = []
        self.ups = 0
        bus.listen("news", lambda node, data: self.heard.append(data))
        bus.on_up = self._up

    def _up(self) -> None:
        self.ups += 1


async def test_what_was_on_its_way_when_the_connection_broke_is_counted(place: AmqpPlace) -> None:
    bus = place.make("one")
    await bus.open()
    await place.cut(bus)
    for _ in range(10):
        bus.publish("news", b"x")
    await until(bus.trouble)
    assert bus.statistics().lost == 10
    assert bus.statistics().published == 0
    await bus.close()


async def test_a_queue_that_somebody_deletes_is_made_again(place: AmqpPlace) -> None:
    one, two = Listening(place.make("one")), Listening(place.make("two"))
    await one.bus.open()
    await two.bus.open()
    async with using(place.straight) as user:
        line = await user.line()
        await line.channel.delete_exchange(f"{place.prefix}#bus")
    one.bus.publish("news", b"lost")
    await until(one.bus.trouble)
    await until(lambda: one.ups)
    assert one.bus.statistics().lost == 1
    two.bus.publish("news", b"lost too: its queue is bound to nothing")
    one.bus.publish("news", b"lost too")
    await one.bus.close()
    await two.bus.close()


async def test_more_than_may_wait_is_lost_and_told(place: AmqpPlace) -> None:
    one, two = Listening(place.make("one")), Listening(place.make("two"))
    await one.bus.open()
    await two.bus.open()
    count = BACKLOG // MAX_DATA + 8
    for number in range(count):
        one.bus.publish("news", bytes([number]) * MAX_DATA)
    told = one.bus.statistics()
    assert 0 < told.lost < 8
    assert told.published + told.lost == count
    assert told.healthy
    await until(lambda: len(two.heard) == told.published)
    await until(lambda: one.ups == 1)
    assert [data[0] for data in two.heard] == list(range(told.published))
    one.bus.publish("news", b"again")
    await until(lambda: two.heard[-1] == b"again")
    await one.bus.close()
    await two.bus.close()


async def test_no_server_is_told_at_the_start(free_port: int) -> None:
    bus = AmqpBus(AmqpUrl(f"amqp://127.0.0.1:{free_port}/"), "one")
    with pytest.raises(BrokerAway):
        await bus.open()
    await bus.close()
    assert bus.trouble() == "the bus is not open"


@pytest.mark.parametrize("node", ["", "a b", "x" * 129])
def test_what_is_no_nodes_id(node: str) -> None:
    with pytest.raises(ValueError, match="id"):
        AmqpBus(AmqpUrl("amqp://localhost"), node)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_it_is_chosen_by_the_brokers_url(scheme: str) -> None:
    assert isinstance(make_bus(f"{scheme}://rabbit.example/shop", "one", SystemClock()), AmqpBus)
    bus = make_bus(f"{scheme}://rabbit.example/shop", "one", SystemClock(), prefix="shop-2")
    assert isinstance(bus, AmqpBus)
    assert bus._exchange == "shop-2#bus"
    with pytest.raises(ConfigError, match=r"broker\.url"):
        make_bus(f"{scheme}://me:pass/word@rabbit.example", "one", SystemClock())
