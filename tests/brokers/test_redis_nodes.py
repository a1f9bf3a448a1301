"""Several nodes on one Redis: mailboxes wander, nodes die, and what was accepted arrives."""

import asyncio
import itertools
import random
from collections import defaultdict

import pytest

from smart_router.brokers.base import Entry, MailboxPolicy, PutResult, Subscription
from smart_router.brokers.redis import RedisBroker
from smart_router.message import Message
from tests.brokers.redis_place import RedisPlace
from tests.services import StartRedis

SHARED = "shared"
ADDRESSES = [f"ui/1/actor{number}" for number in range(12)]


class Reading:
    """A consumer of one node's that confirms in fives."""

    def __init__(self, world: "World", node: RedisBroker, address: str) -> None:
        self.world, self.node, self.address = world, node, address
        self.subscription: Subscription | None = None
        self.held: list[Entry] = []

    def deliver(self, entry: Entry) -> None:
        world, seen, number = self.world, self.world.seen[self.address], int(entry.message.id)
        if entry.redelivered:
            world.repeats += 1
        elif number in seen:
            world.problems.append(f"{number} came twice to {self.address}, and did not say so")
        elif self.address != SHARED and number < max(seen, default=-1):
            world.problems.append(f"{number} came to {self.address} after {max(seen)}")
        seen.add(number)
        self.held.append(entry)
        if len(self.held) >= 5:
            self.confirm()

    def confirm(self) -> None:
        self.node.ack(self.held)
        if self.subscription is not None:
            self.subscription.grant(len(self.held))
        self.held.clear()


class World:
    """Three nodes that read, one that publishes; what was accepted, and what came."""

    def __init__(self, place: RedisPlace) -> None:
        self.place = place
        self.rng = random.Random(7)
        self.seen: dict[str, set[int]] = defaultdict(set)
        self.accepted: dict[str, set[int]] = defaultdict(set)
        self.readings: list[Reading] = []
        self.nodes: list[RedisBroker] = []
        self.problems: list[str] = []
        self.repeats = 0
        self._numbers = itertools.count()

    async def open(self) -> None:
        self.publisher = await self.node()
        self.nodes = [await self.node() for _ in range(3)]
        for address in ADDRESSES:
            for node in self.rng.sample(self.nodes, 2):
                await self.read(node, address)
        for node in self.nodes:
            await self.read(node, SHARED)

    async def node(self) -> RedisBroker:
        broker = self.place.make()
        await broker.open()
        return broker

    async def read(self, node: RedisBroker, address: str) -> None:
        reading = Reading(self, node, address)
        reading.subscription = await node.subscribe(address, _policy(address), reading)
        reading.subscription.grant(20)
        self.readings.append(reading)

    def publish(self) -> None:
        address, number = self.rng.choice([*ADDRESSES, SHARED]), next(self._numbers)
        message = Message(str(number), "ui/1/bob", 0, "talk", b"{}", expires_at=10**8)

        def done(result: PutResult) -> None:
            assert not result.refused
            self.accepted[address].add(number)

        self.publisher.put([Entry(message, address, _policy(address))], done)

    async def wander(self) -> None:
        """One mailbox's reader leaves, another comes."""
        reading = self.readings.pop(self.rng.randrange(len(self.readings)))
        assert reading.subscription is not None
        reading.subscription.close()
        await self.read(self.rng.choice(self.nodes), reading.address)

    async def die(self) -> None:
        """A node ends without a goodbye; its readers come back at others."""
        victim = self.nodes.pop(self.rng.randrange(len(self.nodes)))
        victim.crash()
        orphans = [reading.address for reading in self.readings if reading.node is victim]
        self.readings = [reading for reading in self.readings if reading.node is not victim]
        self.nodes.append(await self.node())
        for address in orphans:
            await self.read(self.rng.choice(self.nodes), address)

    async def is_empty(self) -> bool:
        for reading in self.readings:
            reading.confirm()
        return not any(box.waiting or box.in_flight for box in await self.publisher.mailboxes(limit=100))


def _policy(address: str) -> MailboxPolicy:
    return MailboxPolicy(exclusive=address != SHARED)


@pytest.mark.fault
async def test_nodes_die_and_mailboxes_wander_and_nothing_is_lost(own_redis: StartRedis) -> None:
    server = await asyncio.to_thread(own_redis)
    world = World(RedisPlace(server.url, [server]))
    await world.open()
    for step in range(90):
        for _ in range(40):
            world.publish()
        await asyncio.sleep(0.01)
        if step % 3 == 0:
            await world.wander()
        if step % 20 == 10:
            await world.die()
    async with asyncio.timeout(20):
        while not await world.is_empty():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert sum(map(len, world.accepted.values())) == 3600
    assert world.seen == world.accepted
    assert world.problems == []
    assert world.repeats > 0
    for node in [world.publisher, *world.nodes]:
        await node.close()
