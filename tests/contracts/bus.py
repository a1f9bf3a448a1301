"""What every Bus promises. A provider's own test file says how to make one (tests/bus/test_local.py)."""

import itertools
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
from structlog.testing import capture_logs

from smart_router.bus.base import MAX_DATA, Bus
from tests.fakes.clock import until

__all__ = ["BusContract", "Place"]


class Place(Protocol):
    """One server, or exchange, with any number of nodes."""

    def make(self, node: str, installation: str = "") -> Bus:
        """A bus that is not open. Those of one installation hear each other."""

    async def cut(self, bus: Bus) -> None:
        """From now on this node does not reach the others, nor they it."""

    async def heal(self, bus: Bus) -> None: ...

    async def meddle(self, bus: Bus) -> int:
        """A stranger puts things that are not ours where this node reads; how many."""


class Node:
    """A bus and what it has heard."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: list[tuple[str, bytes]] = []
        self.ups = 0
        bus.listen("news", lambda node, data: self.heard.append((node, data)))
        bus.on_up = self._up

    def _up(self) -> None:
        self.ups += 1

    async def has(self, count: int) -> list[tuple[str, bytes]]:
        await until(lambda: len(self.heard) >= count)
        return self.heard


class Bench:
    """Nodes on one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._numbers = itertools.count(1)
        self._nodes: list[Node] = []

    def made(self, installation: str = "") -> Node:
        """A node whose bus is not open."""
        node = Node(self.place.make(f"node-{next(self._numbers)}", installation))
        self._nodes.append(node)
        return node

    async def node(self, installation: str = "") -> Node:
        node = self.made(installation)
        await node.bus.open()
        return node

    async def nodes(self, count: int) -> list[Node]:
        return [await self.node() for _ in range(count)]

    async def close(self) -> None:
        for node in self._nodes:
            await node.bus.close()


class BusContract:
    """A subclass gives the fixture `place`."""

    @pytest.fixture
    async def bench(self, place: Place) -> AsyncIterator[Bench]:
        bench = Bench(place)
        yield bench
        await bench.close()

    async def test_every_other_node_hears_a_publication(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        one.bus.publish("news", b"hello")
        two.bus.publish("news", b"and you")
        assert await two.has(1) == [(one.bus.node, b"hello")]
        assert await one.has(1) == [(two.bus.node, b"and you")]
        assert sorted(await three.has(2)) == [(one.bus.node, b"hello"), (two.bus.node, b"and you")]

    async def test_only_the_one_named_hears_what_is_sent(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        one.bus.send(two.bus.node, "news", b"for two")
        one.bus.send(one.bus.node, "news", b"for myself")
        one.bus.send("nobody", "news", b"for nobody")
        one.bus.publish("news", b"for all")
        assert await two.has(2) == [(one.bus.node, b"for two"), (one.bus.node, b"for all")]
        assert await three.has(1) == [(one.bus.node, b"for all")]
        assert one.heard == []

    async def test_the_order_of_a_publisher_holds_also_between_publish_and_send(self, bench: Bench) -> None:
        one, two, listener = await bench.nodes(3)
        for number in range(1_000):
            for node in (one, two):
                data = b"%d" % number
                if number % 3:
                    node.bus.publish("news", data)
                else:
                    node.bus.send(listener.bus.node, "news", data)
        heard = await listener.has(2_000)
        for node in (one, two):
            assert [int(data) for name, data in heard if name == node.bus.node] == list(range(1_000))

    async def test_what_a_listener_raises_ends_nothing(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)

        def fail(node: str, data: bytes) -> None:
            raise ZeroDivisionError

        two.bus.listen("bad-news", fail)
        with capture_logs() as logs:
            one.bus.publish("bad-news", b"1")
            one.bus.publish("news", b"2")
            assert await two.has(1) == [(one.bus.node, b"2")]
        assert [line["event"] for line in logs] == ["bus_listener_failed"]
        assert two.bus.trouble() == ""

    async def test_a_listener_may_publish(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        two.bus.listen("question", lambda node, data: two.bus.send(node, "news", data + b"!"))
        for number in range(10):
            one.bus.publish("question", b"%d" % number)
        assert await one.has(10) == [(two.bus.node, b"%d!" % number) for number in range(10)]

    @pytest.mark.parametrize("data", [b"", bytes(range(256)), b"\r\n$1\r\n\x00", b"x" * MAX_DATA], ids=len)
    async def test_any_bytes_arrive_as_they_are(self, bench: Bench, data: bytes) -> None:
        one, two = await bench.nodes(2)
        one.bus.publish("news", data)
        one.bus.send(two.bus.node, "news", data)
        assert await two.has(2) == [(one.bus.node, data)] * 2

    async def test_many_large_ones_arrive(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        for number in range(16):
            one.bus.publish("news", bytes([number]) * MAX_DATA)
        heard = await two.has(16)
        assert [(len(data), data[0]) for _, data in heard] == [(MAX_DATA, number) for number in range(16)]

    async def test_what_is_no_publication_is_refused(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        for topic in ("", "a b", "a\n", "ä", "x" * 65):
            with pytest.raises(ValueError, match="topic"):
                one.bus.publish(topic, b"")
            with pytest.raises(ValueError, match="topic"):
                one.bus.listen(topic, lambda node, data: None)
        with pytest.raises(ValueError, match="at most"):
            one.bus.publish("news", b"x" * (MAX_DATA + 1))
        with pytest.raises(ValueError, match="at most"):
            one.bus.send(two.bus.node, "news", b"x" * (MAX_DATA + 1))
        with pytest.raises(ValueError, match="has a listener"):
            one.bus.listen("news", lambda node, data: None)
        longest = f"{'x' * 60}.y-Z"
        two.bus.listen(longest, lambda node, data: two.heard.append((node, data)))
        one.bus.publish(longest, b"fine")
        assert await two.has(1) == [(one.bus.node, b"fine")]

    async def test_a_topic_without_listener_is_counted(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        one.bus.publish("nothing", b"1")
        one.bus.publish("news", b"2")
        await two.has(1)
        told = two.bus.statistics()
        assert (told.received, told.ignored) == (1, 1)
        assert one.bus.statistics().published == 2

    async def test_things_of_strangers_are_ignored_and_counted(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        count = await place.meddle(two.bus)
        one.bus.publish("news", b"ours")
        assert await two.has(1) == [(one.bus.node, b"ours")]
        await until(lambda: two.bus.statistics().ignored == count)
        assert two.bus.statistics().received == 1
        assert two.bus.trouble() == ""

    async def test_installations_do_not_hear_each_other(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        stranger = await bench.node("other")
        one.bus.publish("news", b"ours")
        one.bus.send(stranger.bus.node, "news", b"ours")
        stranger.bus.publish("news", b"theirs")
        stranger.bus.send(two.bus.node, "news", b"theirs")
        one.bus.publish("news", b"last")
        assert await two.has(2) == [(one.bus.node, b"ours"), (one.bus.node, b"last")]
        assert stranger.heard == []

    async def test_a_newcomer_hears_what_comes_then(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        one.bus.publish("news", b"before")
        await two.has(1)
        late = await bench.node()
        one.bus.publish("news", b"after")
        assert await late.has(1) == [(one.bus.node, b"after")]

    async def test_an_outage_loses_and_says_so_and_on_up_tells_its_end(self, bench: Bench, place: Place) -> None:
        one, two, three = await bench.nodes(3)
        await place.cut(one.bus)
        await until(one.bus.trouble)
        one.bus.publish("news", b"lost")
        one.bus.send(two.bus.node, "news", b"lost")
        told = one.bus.statistics()
        assert (told.lost, told.healthy, told.reason) == (2, False, one.bus.trouble())
        two.bus.publish("news", b"meanwhile")
        assert await three.has(1) == [(two.bus.node, b"meanwhile")]
        assert one.ups == 0
        await place.heal(one.bus)
        await until(lambda: one.ups)
        assert one.bus.trouble() == ""
        one.bus.publish("news", b"again")
        two.bus.publish("news", b"again")
        assert await two.has(1) == [(one.bus.node, b"again")]
        assert await one.has(1) == [(two.bus.node, b"again")]
        assert (one.ups, two.ups, three.ups) == (1, 0, 0)
        assert one.bus.statistics().healthy

    async def test_several_outages_one_after_the_other(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        for number in range(1, 4):
            await place.cut(one.bus)
            await until(one.bus.trouble)
            await place.heal(one.bus)
            await until(lambda number=number: one.ups == number)  # type: ignore[misc]
            two.bus.publish("news", b"%d" % number)
            await one.has(number)
        assert one.heard == [(two.bus.node, b"%d" % number) for number in range(1, 4)]

    async def test_what_was_published_has_left_when_it_is_closed(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        for number in range(500):
            one.bus.publish("news", b"%d" % number)
        await one.bus.close()
        await one.bus.close()
        assert await two.has(500) == [(one.bus.node, b"%d" % number) for number in range(500)]

    async def test_a_closed_one_hears_and_says_nothing(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        await two.bus.close()
        one.bus.publish("news", b"1")
        two.bus.publish("news", b"2")
        one.bus.publish("news", b"3")
        assert await three.has(2) == [(one.bus.node, b"1"), (one.bus.node, b"3")]
        assert two.heard == []
        assert two.bus.statistics().lost == 1
        assert two.bus.trouble()
        assert two.ups == 0

    async def test_before_it_is_open_it_is_away(self, bench: Bench) -> None:
        one = bench.made()
        one.bus.publish("news", b"too early")
        assert one.bus.trouble()
        assert one.bus.statistics().lost == 1
        await one.bus.open()
        assert one.bus.trouble() == ""
        assert one.ups == 0
