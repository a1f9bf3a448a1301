"""What every Broker promises. A provider's own test file says how to open one (tests/brokers/test_embedded_file.py)."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import msgspec
import pytest

from smart_router.brokers.base import (
    Broker,
    Capability,
    End,
    Entry,
    MailboxPolicy,
    Overflow,
    PutResult,
    Subscription,
)
from smart_router.errors import RouterError
from smart_router.message import Message

__all__ = ["BrokerContract", "FakeClock", "Place", "Reader", "until"]

PATIENCE = 10.0


class FakeClock:
    """Far ahead of the event loop's clock, so that nothing fires by itself."""

    def __init__(self) -> None:
        self.now = 1e9
        self.wall = 1_700_000_000_000

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return self.wall


class Place(Protocol):
    """Where a provider keeps its mailboxes, in one test."""

    clock: FakeClock

    async def open(self) -> Broker:
        """Opens a broker on this place, another node's if it claims MANY_NODES; else the one before is closed."""

    async def crash(self, broker: Broker) -> None:
        """Ends it as kill -9 would: what it had not made safe is gone."""

    def advance(self, broker: Broker, seconds: float) -> None:
        """Lets time pass."""

    async def take_storage_away(self, broker: Broker) -> None: ...

    def give_storage_back(self, broker: Broker) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    """Returns when it holds; fails the test when it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - providers tell their progress in many ways
            await asyncio.sleep(0)


class Reader:
    """A consumer that remembers, and confirms when told to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def deliver(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def ids(self) -> list[str]:
        return [entry.message.id for entry in self.entries]

    async def has(self, count: int) -> list[str]:
        await until(lambda: len(self.entries) >= count)
        return self.ids


POLICY = MailboxPolicy()
EXCLUSIVE = MailboxPolicy(exclusive=True)
BOX = "ui/456/alice"


class Bench:
    """A broker with its place, and short ways to use it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.broker: Broker
        self.ended: list[tuple[str, End, str]] = []
        self.removed: list[str] = []
        self._numbers = itertools.count(1)
        self._results: list[asyncio.Future[PutResult]] = []

    async def open(self) -> None:
        self.broker = await self.place.open()
        self.broker.on_end = self._on_end
        self.broker.on_removed = self.removed.append

    def _on_end(self, entry: Entry, end: End, reason: str) -> None:
        self.ended.append((entry.message.id, end, reason))
        self.broker.ack([entry])

    async def again(self) -> None:
        await self.broker.close()
        await self.open()

    async def crash(self) -> None:
        await self.place.crash(self.broker)
        await self.open()

    def message(self, **options: object) -> Message:
        wall, number = self.place.clock.wall_ms(), next(self._numbers)
        plain = Message(id=f"m{number}", sender="ui/456/bob", at=wall, type="talk", body=b'{"text":"hello"}')
        return msgspec.structs.replace(plain, **options)

    def start(
        self, *addresses: str, policy: MailboxPolicy = POLICY, broker: Broker | None = None, **options: object
    ) -> asyncio.Future[PutResult]:
        """Puts one message; the future has the result."""
        future: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        message = self.message(**options)
        entries = [Entry(message, address, policy) for address in addresses or (BOX,)]
        dedup = (message.sender, message.key, message.id.encode()) if message.key is not None else None
        (broker or self.broker).put(entries, future.set_result, dedup)
        return future

    async def put(
        self, *addresses: str, policy: MailboxPolicy = POLICY, broker: Broker | None = None, **options: object
    ) -> PutResult:
        return await self.start(*addresses, policy=policy, broker=broker, **options)

    async def put_many(self, count: int, address: str = BOX, policy: MailboxPolicy = POLICY) -> None:
        results = await asyncio.gather(*[self.start(address, policy=policy) for _ in range(count)])
        assert not any(result.refused for result in results)

    async def gives(self, reader: Reader, count: int, policy: MailboxPolicy = POLICY) -> None:
        """Puts so many, and the reader gets them."""
        before = len(reader.entries)
        results = [self.start(policy=policy) for _ in range(count)]
        await until(lambda: len(reader.entries) >= before + count)
        assert reader.ids == sorted(reader.ids, key=lambda identifier: int(identifier[1:]))
        self._results += results

    @contextlib.asynccontextmanager
    async def another(self, place: Place) -> AsyncIterator[Broker]:
        """A second node's broker on the same place."""
        other = await place.open()
        other.on_end = self._on_end
        try:
            yield other
        finally:
            await other.close()

    async def read(
        self, credit: int = 100, address: str = BOX, policy: MailboxPolicy = POLICY, broker: Broker | None = None
    ) -> tuple[Reader, Subscription]:
        reader = Reader()
        subscription = await (broker or self.broker).subscribe(address, policy, reader)
        if credit:
            subscription.grant(credit)
        return reader, subscription

    async def settled(self, address: str = BOX) -> None:
        """What was confirmed and closed before this is known to the broker."""
        async with asyncio.timeout(PATIENCE):
            while (box := await self.broker.mailbox(address)) and (box.in_flight or box.subscriptions):  # noqa: ASYNC110 - as in `until`
                await asyncio.sleep(0)

    async def waiting(self, address: str = BOX) -> int:
        statistics = await self.broker.mailbox(address)
        return statistics.waiting if statistics is not None else 0

    async def has_waiting(self, count: int, address: str = BOX) -> None:
        """Returns when so many wait there."""
        async with asyncio.timeout(PATIENCE):
            while await self.waiting(address) != count:  # noqa: ASYNC110 - providers tell their progress in many ways
                await asyncio.sleep(0)

    async def has_ended(self, *ended: tuple[str, End, str]) -> None:
        """Returns when exactly these have ended, in this order."""
        await until(lambda: len(self.ended) >= len(ended))
        assert self.ended == list(ended)

    def advance(self, seconds: float) -> None:
        self.place.clock.now += seconds
        self.place.clock.wall += int(seconds * 1000)
        self.place.advance(self.broker, seconds)


Test = Callable[..., Awaitable[None]]


def needs(*capabilities: Capability) -> Callable[[Test], Test]:
    """The test holds a provider to these claims; one that does not make them skips it by name."""

    def mark(test: Test) -> Test:
        test.__dict__["needs"] = capabilities
        return test

    return mark


class BrokerContract:
    """A subclass gives the fixture `place`."""

    @pytest.fixture
    async def bench(self, place: Place, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
        bench = Bench(place)
        await bench.open()
        for capability in getattr(request.function, "needs", ()):
            if capability not in bench.broker.capabilities:
                await bench.broker.close()
                pytest.skip(f"does not claim {capability}")
        yield bench
        await bench.broker.close()

    # Order, credit, confirmation

    async def test_messages_come_in_the_order_of_their_puts(self, bench: Bench) -> None:
        reader, _ = await bench.read(credit=1000)
        results = [bench.start() for _ in range(200)]
        ids = await reader.has(200)
        assert ids == [f"m{number}" for number in range(1, 201)]
        bench.broker.ack(reader.entries)
        assert not any(result.refused for result in await asyncio.gather(*results))

    async def test_what_was_put_before_anybody_reads_comes_in_order(self, bench: Bench) -> None:
        await bench.put_many(700)
        reader, _ = await bench.read(credit=1000)
        late = bench.start()
        assert await reader.has(701) == [f"m{number}" for number in range(1, 702)]
        assert not any(entry.redelivered for entry in reader.entries)
        bench.broker.ack(reader.entries)
        await late

    async def test_a_subscription_without_credit_gets_nothing(self, bench: Bench) -> None:
        reader, subscription = await bench.read(credit=0)
        await bench.put_many(3)
        assert reader.entries == []
        subscription.grant(2)
        assert await reader.has(2) == ["m1", "m2"]
        await bench.has_waiting(1)

    async def test_unused_credit_can_be_taken_back(self, bench: Bench) -> None:
        reader, subscription = await bench.read(credit=5)
        subscription.grant(-5)
        await bench.put()
        assert reader.entries == []
        subscription.grant(1)
        await reader.has(1)

    async def test_confirmed_messages_are_gone_after_a_restart(self, bench: Bench) -> None:
        await bench.put_many(4)
        reader, _ = await bench.read()
        await reader.has(4)
        bench.broker.ack(reader.entries[:3])
        bench.broker.ack(reader.entries[:3])
        await bench.again()
        if Capability.DURABLE in bench.broker.capabilities:
            reader, _ = await bench.read()
            assert await reader.has(1) == ["m4"]
            assert reader.entries[0].redelivered

    async def test_one_put_reaches_many_mailboxes(self, bench: Bench) -> None:
        first, _ = await bench.read(address="ui/456/a")
        second, _ = await bench.read(address="ui/456/b")
        result = bench.start("ui/456/a", "ui/456/b", "ui/456/c")
        await first.has(1)
        await second.has(1)
        bench.broker.ack(first.entries)
        assert (await result).refused == {}
        await bench.has_waiting(1, "ui/456/c")

    async def test_a_put_to_nobody_is_done(self, bench: Bench) -> None:
        results: list[PutResult] = []
        bench.broker.put([], results.append)
        assert results[0].refused == {}

    async def test_a_reader_may_confirm_and_take_more_from_inside_its_delivery(self, bench: Bench) -> None:
        await bench.put_many(50)
        got: list[str] = []

        class Eager:
            subscription: Subscription

            def deliver(self, entry: Entry) -> None:
                got.append(entry.message.id)
                bench.broker.ack([entry])
                self.subscription.grant(1)

        eager = Eager()
        eager.subscription = await bench.broker.subscribe(BOX, POLICY, eager)
        eager.subscription.grant(1)
        await until(lambda: len(got) == 50)
        assert got == [f"m{number}" for number in range(1, 51)]

    # Back

    async def test_released_messages_come_first_again_in_their_order(self, bench: Bench) -> None:
        await bench.put_many(6)
        reader, subscription = await bench.read(credit=4)
        await reader.has(4)
        bench.broker.release([reader.entries[3], reader.entries[1]])
        subscription.grant(10)
        assert await reader.has(8) == ["m1", "m2", "m3", "m4", "m2", "m4", "m5", "m6"]
        assert [entry.redelivered for entry in reader.entries[4:]] == [True, True, False, False]

    async def test_core_s_counts_come_back_with_the_entry(self, bench: Bench) -> None:
        await bench.put()
        reader, subscription = await bench.read()
        await reader.has(1)
        reader.entries[0].attempts, reader.entries[0].deliveries = 2, 7
        subscription.close()
        await bench.has_waiting(1)
        reader, _ = await bench.read()
        await reader.has(1)
        assert (reader.entries[0].attempts, reader.entries[0].deliveries) == (2, 7)

    async def test_a_closed_subscription_gives_back_what_it_held(self, bench: Bench) -> None:
        await bench.put_many(5)
        reader, subscription = await bench.read(credit=3)
        await reader.has(3)
        bench.broker.ack([reader.entries[1]])
        subscription.close()
        subscription.close()
        again, _ = await bench.read()
        assert await again.has(4) == ["m1", "m3", "m4", "m5"]
        assert [entry.redelivered for entry in again.entries[:2]] == [True, True]

    async def test_a_confirmation_after_the_subscription_closed_still_counts(self, bench: Bench) -> None:
        await bench.put_many(2)
        reader, subscription = await bench.read()
        await reader.has(2)
        subscription.close()
        bench.broker.ack([reader.entries[0]])
        again, _ = await bench.read()
        assert await again.has(1) == ["m2"]

    async def test_what_is_released_with_a_delay_lets_later_ones_pass(self, bench: Bench) -> None:
        await bench.put_many(3)
        reader, subscription = await bench.read(credit=1)
        await reader.has(1)
        bench.broker.release(reader.entries[:1], delay=5)
        await bench.has_waiting(3)
        subscription.grant(10)
        assert await reader.has(3) == ["m1", "m2", "m3"]
        bench.advance(5.1)
        assert await reader.has(4) == ["m1", "m2", "m3", "m1"]

    async def test_two_readers_share_in_turn_each_in_order(self, bench: Bench) -> None:
        first, _ = await bench.read()
        second, _ = await bench.read()
        results: list[asyncio.Future[PutResult]] = []

        async def give(count: int) -> None:
            arrived = len(first.entries) + len(second.entries) + count
            results.extend(bench.start() for _ in range(count))
            await until(lambda: len(first.entries) + len(second.entries) == arrived)

        while not (first.entries and second.entries):  # until both have begun
            await give(1)
        begun = len(first.entries), len(second.entries)
        await give(10)
        numbers = [[int(identifier[1:]) for identifier in reader.ids] for reader in (first, second)]
        assert all(one == sorted(one) for one in numbers)
        assert (len(first.entries), len(second.entries)) == (begun[0] + 5, begun[1] + 5)
        bench.broker.ack(first.entries + second.entries)
        await asyncio.gather(*results)

    # One after the other

    async def test_an_exclusive_mailbox_is_read_by_one_after_the_other(self, bench: Bench) -> None:
        first, one = await bench.read(policy=EXCLUSIVE)
        second, two = await bench.read(policy=EXCLUSIVE)
        third, three = await bench.read(policy=EXCLUSIVE)
        await bench.gives(first, 3, policy=EXCLUSIVE)
        three.close()
        one.close()
        assert await second.has(3) == ["m1", "m2", "m3"]
        assert all(entry.redelivered for entry in second.entries)
        await bench.gives(second, 2, policy=EXCLUSIVE)
        bench.broker.ack(second.entries)
        two.close()
        assert third.entries == []

    async def test_credit_of_who_stands_in_line_counts_when_its_turn_comes(self, bench: Bench) -> None:
        _, one = await bench.read(credit=0, policy=EXCLUSIVE)
        second, two = await bench.read(credit=0, policy=EXCLUSIVE)
        two.grant(5)
        two.grant(-3)
        await bench.put_many(4, policy=EXCLUSIVE)
        one.close()
        assert await second.has(2) == ["m1", "m2"]
        await bench.has_waiting(2)

    async def test_what_is_kept_over_a_close_stays_out_and_comes_back_first(self, bench: Bench) -> None:
        first, one = await bench.read(credit=3, policy=EXCLUSIVE)
        second, two = await bench.read(credit=2, policy=EXCLUSIVE)
        results = [bench.start(policy=EXCLUSIVE) for _ in range(6)]
        await first.has(3)
        one.close(keep=True)
        assert await second.has(2) == ["m4", "m5"]
        bench.broker.ack([first.entries[0]])
        bench.broker.release([first.entries[2], first.entries[1]])
        two.grant(10)
        assert await second.has(5) == ["m4", "m5", "m2", "m3", "m6"]
        bench.broker.ack(second.entries)
        await asyncio.gather(*results)
        await bench.has_waiting(0)

    # Many nodes

    @needs(Capability.MANY_NODES)
    async def test_a_message_enters_at_one_node_and_leaves_at_another(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            reader, _ = await bench.read(broker=other)
            await bench.put_many(5)
            assert await reader.has(5) == ["m1", "m2", "m3", "m4", "m5"]
            assert not any(entry.redelivered for entry in reader.entries)
            other.ack(reader.entries)
            await bench.has_waiting(0)

    @needs(Capability.MANY_NODES)
    async def test_two_nodes_share_a_mailbox(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            here, _ = await bench.read(credit=10)
            there, _ = await bench.read(credit=10, broker=other)
            await bench.put_many(20)
            await until(lambda: len(here.entries) + len(there.entries) == 20)
            assert sorted(here.ids + there.ids) == sorted(f"m{number}" for number in range(1, 21))

    @needs(Capability.MANY_NODES)
    async def test_the_line_of_an_exclusive_mailbox_is_everybodys(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            here, one = await bench.read(policy=EXCLUSIVE)
            there, two = await bench.read(policy=EXCLUSIVE, broker=other)
            await bench.gives(here, 3, policy=EXCLUSIVE)
            bench.broker.ack(here.entries[:1])
            one.close()
            assert await there.has(2) == ["m2", "m3"]
            await bench.gives(there, 1, policy=EXCLUSIVE)
            other.ack(there.entries)
            two.close()
            again, _ = await bench.read(policy=EXCLUSIVE)
            await bench.gives(again, 1, policy=EXCLUSIVE)

    @needs(Capability.MANY_NODES)
    async def test_a_mailbox_of_a_node_that_dies_goes_to_the_next(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            here, _ = await bench.read(policy=EXCLUSIVE)
            there, _ = await bench.read(policy=EXCLUSIVE, broker=other)
            await bench.gives(here, 3, policy=EXCLUSIVE)
            await place.crash(bench.broker)
            assert await there.has(3) == ["m1", "m2", "m3"]
            assert all(entry.redelivered for entry in there.entries)
            other.ack(there.entries)
            await bench.open()

    @needs(Capability.MANY_NODES)
    async def test_what_a_dead_node_took_from_a_shared_mailbox_comes_back(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            here, _ = await bench.read(credit=3)
            await bench.put_many(5)
            await here.has(3)
            await place.crash(bench.broker)
            there, _ = await bench.read(broker=other)
            await until(lambda: len(there.entries) == 5)
            assert sorted(there.ids) == ["m1", "m2", "m3", "m4", "m5"]
            other.ack(there.entries)
            await bench.open()

    @needs(Capability.MANY_NODES, Capability.DEDUP_INSTALLATION)
    async def test_a_repeat_at_another_node_gets_the_first_answer(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            await bench.put(key="once")
            assert (await bench.put(key="once", broker=other)).answer == b"m1"
            await bench.has_waiting(1)

    @needs(Capability.MANY_NODES)
    async def test_a_mailbox_moves_many_times_and_keeps_its_order(self, bench: Bench, place: Place) -> None:
        async with bench.another(place) as other:
            brokers = itertools.cycle((bench.broker, other))
            seen: dict[str, int] = {}
            for _ in range(20):
                broker = next(brokers)
                reader, subscription = await bench.read(policy=EXCLUSIVE, broker=broker)
                await bench.gives(reader, 5, policy=EXCLUSIVE)
                for identifier in reader.ids:
                    seen.setdefault(identifier, len(seen) + 1)
                broker.ack(reader.entries[:3])
                subscription.close()
            assert list(seen) == [f"m{number}" for number in range(1, len(seen) + 1)]

    # Kept

    @needs(Capability.DURABLE)
    async def test_what_was_delivered_and_not_confirmed_comes_again_after_a_crash(self, bench: Bench) -> None:
        await bench.put_many(3)
        reader, _ = await bench.read(credit=2)
        await reader.has(2)
        await bench.crash()
        again, _ = await bench.read()
        assert await again.has(3) == ["m1", "m2", "m3"]
        assert all(entry.redelivered for entry in again.entries[:2])

    @needs(Capability.DURABLE)
    async def test_a_message_comes_back_whole(self, bench: Bench) -> None:
        wall = bench.place.clock.wall_ms()
        sent = bench.message(
            body='{"text":"žluť"}'.encode(),
            attachments=(b"\0\1", b""),
            priority=7,
            key="k",
            expires_at=wall + 99_000,
            wants=31,
            asker="node-1",
        )
        done: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        bench.broker.put([Entry(sent, BOX, POLICY)], done.set_result)
        await done
        await bench.crash()
        reader, _ = await bench.read()
        await reader.has(1)
        assert reader.entries[0].message == sent
        assert reader.entries[0].address == BOX

    @needs(Capability.DURABLE)
    async def test_a_put_is_done_only_when_it_is_safe(self, bench: Bench) -> None:
        reader, _ = await bench.read()
        await bench.put()
        await bench.crash()
        again, _ = await bench.read()
        assert await again.has(1) == ["m1"]
        assert reader.ids in (["m1"], [])

    # Limits

    async def test_drop_oldest_ends_the_oldest_that_waits(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=3)
        await bench.put_many(5, policy=policy)
        await bench.has_ended(("m1", End.DROPPED, "overflow"), ("m2", End.DROPPED, "overflow"))
        reader, _ = await bench.read(policy=policy)
        assert await reader.has(3) == ["m3", "m4", "m5"]

    async def test_drop_newest_ends_the_new_one(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=2, overflow=Overflow.DROP_NEWEST)
        await bench.put_many(3, policy=policy)
        await until(lambda: bench.ended == [("m3", End.DROPPED, "overflow")])
        await bench.has_waiting(2)

    async def test_refuse_tells_the_sender(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=2, overflow=Overflow.REFUSE)
        await bench.put_many(2, policy=policy)
        result = await bench.put(BOX, "ui/456/other", policy=policy)
        assert {address: error.code for address, error in result.refused.items()} == {BOX: "mailbox_full"}
        await bench.has_waiting(1, "ui/456/other")
        await bench.has_waiting(2)
        assert bench.ended == []

    async def test_a_refusal_that_nobody_waits_for_is_an_end(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=1, overflow=Overflow.REFUSE)
        await bench.put_many(1, policy=policy)
        bench.broker.put([Entry(bench.message(), BOX, policy)])
        await until(lambda: bench.ended == [("m2", End.REFUSED, "mailbox_full")])

    async def test_a_limit_of_bytes(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_bytes=25, overflow=Overflow.REFUSE)
        assert not (await bench.put(policy=policy, body=bytes(20))).refused
        assert (await bench.put(policy=policy, body=bytes(4), attachments=(bytes(2),))).refused
        assert not (await bench.put(policy=policy, body=bytes(5))).refused

    async def test_a_message_larger_than_its_mailbox_ends_and_no_other(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_bytes=25)
        await bench.put(policy=policy, body=bytes(20))
        await bench.put(policy=policy, body=bytes(26))
        await until(lambda: bench.ended == [("m2", End.DROPPED, "overflow")])
        await bench.has_waiting(1)

    @needs(Capability.DROP_ONLY_WAITING)
    async def test_what_is_in_flight_and_what_comes_back_do_not_count(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=2)
        reader, _ = await bench.read(credit=3, policy=policy)
        results = [bench.start(policy=policy) for _ in range(5)]
        await reader.has(3)
        bench.broker.release(reader.entries[:3])
        await bench.has_waiting(5)
        assert bench.ended == []
        await asyncio.gather(*results)

    async def test_no_limits(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=0, max_bytes=0)
        await bench.put_many(50, policy=policy)
        await bench.has_waiting(50)

    # Time

    async def test_a_message_expires_while_it_waits(self, bench: Bench) -> None:
        wall = bench.place.clock.wall_ms()
        await bench.put(expires_at=wall + 10_000)
        await bench.put()
        bench.advance(9.5)
        assert bench.ended == []
        bench.advance(1)
        reader, _ = await bench.read()
        assert await reader.has(1) == ["m2"]
        await until(lambda: bench.ended == [("m1", End.EXPIRED, "ttl")])

    @needs(Capability.EXPIRY_OUT_OF_TURN)
    async def test_expiry_does_not_wait_for_its_turn(self, bench: Bench) -> None:
        wall = bench.place.clock.wall_ms()
        await bench.put()
        await bench.put(expires_at=wall + 1_000)
        await bench.put(expires_at=wall + 500)
        bench.advance(0.7)
        await until(lambda: bench.ended == [("m3", End.EXPIRED, "ttl")])
        bench.advance(0.7)
        await until(lambda: [ended[0] for ended in bench.ended] == ["m3", "m2"])
        await bench.has_waiting(1)

    @needs(Capability.EXPIRY_OUT_OF_TURN)
    async def test_many_expire_without_a_reader(self, bench: Bench) -> None:
        wall = bench.place.clock.wall_ms()
        await asyncio.gather(*[bench.start(expires_at=wall + 1_000) for _ in range(1_200)])
        for _ in range(5):
            bench.advance(1)
        await until(lambda: len(bench.ended) == 1_200)
        await bench.has_waiting(0)

    @needs(Capability.EXPIRY_OUT_OF_TURN)
    async def test_a_wall_clock_that_jumps_expires_nothing(self, bench: Bench) -> None:
        clock = bench.place.clock
        await bench.put(expires_at=clock.wall + 10_000)
        clock.wall += 3_600_000
        bench.place.advance(bench.broker, 0)
        await bench.put(expires_at=clock.wall + 10_000)
        clock.wall -= 7_200_000
        bench.advance(9)
        assert bench.ended == []
        bench.advance(2)
        await until(lambda: len(bench.ended) == 2)

    @needs(Capability.DURABLE)
    async def test_time_passes_while_the_router_is_down(self, bench: Bench) -> None:
        clock = bench.place.clock
        await bench.put(expires_at=clock.wall + 10_000)
        await bench.put(expires_at=clock.wall + 100_000)
        await bench.broker.close()
        clock.now += 5_000
        clock.wall += 50_000
        await bench.open()
        reader, _ = await bench.read()
        assert await reader.has(1) == ["m2"]
        await until(lambda: bench.ended == [("m1", End.EXPIRED, "ttl")])

    async def test_an_empty_mailbox_that_nobody_reads_goes(self, bench: Bench) -> None:
        reader, subscription = await bench.read()
        result = bench.start()
        await reader.has(1)
        bench.advance(2_000)
        assert bench.broker.exists(BOX)
        bench.broker.ack(reader.entries)
        await result
        subscription.close()
        await bench.settled()
        bench.advance(899)
        assert bench.removed == []
        bench.advance(2)
        await until(lambda: bench.removed == [BOX])
        assert await bench.broker.mailbox(BOX) is None

    @needs(Capability.DURABLE)
    async def test_a_durable_mailbox_with_messages_stays(self, bench: Bench) -> None:
        await bench.put()
        bench.advance(2_000)
        await bench.has_waiting(1)
        reader, subscription = await bench.read()
        await reader.has(1)
        bench.broker.ack(reader.entries)
        subscription.close()
        await bench.settled()
        bench.advance(901)
        await until(lambda: bench.removed == [BOX])

    async def test_a_memory_mailbox_goes_with_its_messages(self, bench: Bench) -> None:
        policy = MailboxPolicy(durable=False)
        await bench.put_many(2, policy=policy)
        bench.advance(901)
        await until(lambda: bench.removed == [BOX])
        await bench.has_ended(("m1", End.EXPIRED, "idle"), ("m2", End.EXPIRED, "idle"))

    # Lanes and keys

    @needs(Capability.PRIORITY)
    async def test_higher_priorities_come_first_and_nothing_starves(self, bench: Bench) -> None:
        for _ in range(5):
            await bench.put(priority=1)
        for _ in range(60):
            await bench.put(priority=8)
        reader, _ = await bench.read()
        ids = [int(identifier[1:]) for identifier in await reader.has(65)]
        high, low = [i for i in ids if i > 5], [i for i in ids if i <= 5]
        assert (high, low) == (sorted(high), sorted(low))
        assert ids[0] == 6
        assert 1 in ids[:20]

    @needs(Capability.PRIORITY)
    async def test_what_comes_back_goes_before_every_priority(self, bench: Bench) -> None:
        await bench.put(priority=0)
        reader, subscription = await bench.read(credit=1)
        await reader.has(1)
        await bench.put(priority=9)
        bench.broker.release(reader.entries)
        subscription.grant(2)
        assert await reader.has(3) == ["m1", "m1", "m2"]

    @needs(Capability.SUPERSEDE)
    async def test_a_newer_message_replaces_the_waiting_one_with_its_key(self, bench: Bench) -> None:
        await bench.put(supersede="position")
        await bench.put(supersede="speed")
        await bench.put(supersede="position")
        await until(lambda: bench.ended == [("m1", End.SUPERSEDED, "superseded")])
        reader, subscription = await bench.read()
        assert await reader.has(2) == ["m2", "m3"]
        newest = bench.start(supersede="position")
        await reader.has(3)
        bench.broker.ack(reader.entries)
        await newest
        assert len(bench.ended) == 1
        subscription.close()

    @needs(Capability.SUPERSEDE)
    async def test_what_comes_back_is_replaced_by_the_newer_that_waits(self, bench: Bench) -> None:
        await bench.put(supersede="position")
        reader, _ = await bench.read(credit=1)
        await reader.has(1)
        await bench.put(supersede="position")
        assert bench.ended == []
        bench.broker.release(reader.entries)
        await until(lambda: bench.ended == [("m1", End.SUPERSEDED, "superseded")])

    @needs(Capability.SUPERSEDE, Capability.DURABLE)
    async def test_keys_are_known_after_a_restart(self, bench: Bench) -> None:
        await bench.put(supersede="position")
        await bench.again()
        await bench.put(supersede="position")
        await until(lambda: bench.ended == [("m1", End.SUPERSEDED, "superseded")])

    # Operators

    async def test_peek_shows_what_waits_and_takes_nothing(self, bench: Bench) -> None:
        await bench.put_many(5)
        first = await bench.broker.peek(BOX, limit=2)
        assert [entry.message.id for entry in first] == ["m1", "m2"]
        rest = await bench.broker.peek(BOX, after="m2")
        assert [entry.message.id for entry in rest] == ["m3", "m4", "m5"]
        assert await bench.broker.peek("ui/456/nobody") == []
        bench.broker.ack(first)
        await bench.has_waiting(5)

    async def test_peek_misses_nothing_that_is_just_being_written(self, bench: Bench) -> None:
        for round_ in range(20):
            await bench.put_many(5)
            assert len(await bench.broker.peek(BOX, limit=1000)) == 5 * (round_ + 1)

    @needs(Capability.PEEK_HELD)
    async def test_peek_while_somebody_reads(self, bench: Bench) -> None:
        reader, _ = await bench.read(credit=1)
        results = [bench.start() for _ in range(3)]
        await reader.has(1)
        assert [entry.message.id for entry in await bench.broker.peek(BOX)] == ["m2", "m3"]
        await asyncio.gather(*results)

    async def test_purge_ends_what_waits(self, bench: Bench) -> None:
        await bench.put_many(4)
        reader, _ = await bench.read(credit=1)
        await reader.has(1)
        assert await bench.broker.purge(BOX) == 3
        await bench.has_ended(*[(f"m{number}", End.DROPPED, "purged") for number in (2, 3, 4)])
        await bench.has_waiting(0)
        bench.broker.ack(reader.entries)
        assert await bench.broker.purge("ui/456/nobody") == 0

    @needs(Capability.REQUEUE_ONE)
    async def test_requeue_moves_one_message(self, bench: Bench) -> None:
        await bench.put_many(3)
        assert await bench.broker.requeue(BOX, "m2", "agent/456", POLICY)
        assert not await bench.broker.requeue(BOX, "m2", "agent/456", POLICY)
        reader, _ = await bench.read(address="agent/456")
        assert await reader.has(1) == ["m2"]
        reader, _ = await bench.read()
        assert await reader.has(2) == ["m1", "m3"]

    @needs(Capability.REQUEUE_ONE)
    async def test_a_requeue_that_is_refused_changes_nothing(self, bench: Bench) -> None:
        full = MailboxPolicy(max_messages=1, overflow=Overflow.REFUSE)
        await bench.put_many(1, "agent/456", full)
        await bench.put_many(2)
        with pytest.raises(RouterError) as caught:
            await bench.broker.requeue(BOX, "m2", "agent/456", full)
        assert caught.value.code == "mailbox_full"
        reader, _ = await bench.read()
        assert await reader.has(2) == ["m2", "m3"]

    async def test_delete_purges_and_removes(self, bench: Bench) -> None:
        await bench.put_many(3)
        reader, subscription = await bench.read(credit=1)
        await reader.has(1)
        assert await bench.broker.delete(BOX)
        await until(lambda: sorted(ended[0] for ended in bench.ended) == ["m1", "m2", "m3"])
        await until(lambda: bench.removed == [BOX])
        assert not bench.broker.exists(BOX)
        assert not await bench.broker.delete(BOX)
        await bench.put()
        subscription.grant(5)
        subscription.close()
        assert len(reader.entries) == 1
        await bench.has_waiting(1)

    # Dedup

    async def test_a_repeat_changes_nothing_and_gets_the_first_answer(self, bench: Bench) -> None:
        assert bench.broker.recall("ui/456/bob", "once") is None
        await bench.put(key="once")
        result = await bench.put(key="once")
        assert (result.refused, result.answer) == ({}, b"m1")
        assert bench.broker.recall("ui/456/bob", "once") == b"m1"
        assert bench.broker.recall("ui/456/eve", "once") is None
        await bench.has_waiting(1)

    async def test_a_repeat_waits_for_the_first(self, bench: Bench) -> None:
        first = bench.start(key="once")
        recalled = bench.broker.recall("ui/456/bob", "once")
        second = bench.start(key="once")
        assert (await second).answer == b"m1"
        assert recalled == b"m1" or (not isinstance(recalled, bytes | None) and await recalled == b"m1")
        await first
        await bench.has_waiting(1)

    async def test_a_refused_message_may_be_tried_again(self, bench: Bench) -> None:
        policy = MailboxPolicy(max_messages=1, overflow=Overflow.REFUSE)
        await bench.put(policy=policy)
        assert (await bench.put(policy=policy, key="once")).refused
        await bench.broker.purge(BOX)
        result = await bench.put(policy=policy, key="once")
        assert (result.refused, result.answer) == ({}, None)

    async def test_the_window_ends(self, bench: Bench) -> None:
        await bench.put(key="once")
        bench.advance(119)
        assert bench.broker.recall("ui/456/bob", "once") == b"m1"
        bench.advance(2)
        assert bench.broker.recall("ui/456/bob", "once") is None

    @needs(Capability.DURABLE, Capability.DEDUP_INSTALLATION)
    async def test_keys_of_messages_survive_a_crash_with_them(self, bench: Bench) -> None:
        reader, subscription = await bench.read()
        first = bench.start(key="once")
        await reader.has(1)
        bench.broker.ack(reader.entries)
        subscription.close()
        await first
        await bench.settled()
        await bench.crash()
        assert (await bench.put(key="once")).answer == b"m1"
        await bench.has_waiting(0)

    # Trouble and figures

    @needs(Capability.DURABLE)
    async def test_without_storage_nothing_is_taken_and_nothing_lost(self, bench: Bench) -> None:
        await bench.put_many(2)
        reader, _ = await bench.read(credit=10, address="ui/456/live")
        await bench.place.take_storage_away(bench.broker)
        try:
            result = await bench.put("ui/456/offline")
            assert result.refused["ui/456/offline"].temporary
            await until(lambda: not bench.broker.statistics().healthy)
            assert bench.broker.statistics().reason
            assert (await bench.put("ui/456/live")).refused
            assert reader.entries == []
            await bench.has_waiting(0, "ui/456/offline")
            kept, _ = await bench.read()
            assert await kept.has(2) == ["m1", "m2"]
            bench.broker.ack(kept.entries)
        finally:
            bench.place.give_storage_back(bench.broker)
        await until(lambda: bench.broker.statistics().healthy)
        await bench.put()
        await bench.crash()
        assert "m5" in [entry.message.id for entry in await bench.broker.peek(BOX)]

    async def test_statistics(self, bench: Bench) -> None:
        await bench.put("ui/1/a", body=bytes(10))
        await bench.put("ui/2/b", "ui/2/c", body=bytes(20))
        reader, _ = await bench.read(address="ui/2/b")
        await reader.has(1)
        one = await bench.broker.mailbox("ui/1/a")
        assert one is not None
        assert (one.waiting, one.in_flight, one.bytes, one.subscriptions) == (1, 0, 10, 0)
        two = await bench.broker.mailbox("ui/2/b")
        assert two is not None
        assert (two.waiting, two.in_flight, two.subscriptions) == (0, 1, 1)
        assert [found.address for found in await bench.broker.mailboxes("ui/2")] == ["ui/2/b", "ui/2/c"]
        assert [found.address for found in await bench.broker.mailboxes("ui/", after="ui/1/a", limit=1)] == ["ui/2/b"]
        whole = bench.broker.statistics()
        assert (whole.mailboxes, whole.waiting, whole.in_flight, whole.puts) == (3, 2, 1, 3)
        assert whole.healthy
        assert await bench.broker.mailbox("ui/3/x") is None
