"""The directory in Redis under random trouble: after it every view is the truth, and Redis holds no more."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from smart_router.directory.base import SessionRecord
from smart_router.directory.redis_members import PARTITIONS
from smart_router.directory.redis_partitions import sessions_key
from smart_router.errors import StorageError
from tests.contracts.directory import Bench, Node, in_order
from tests.directory.places import RedisPlace, wait_for
from tests.fakes.redis import Ways
from tests.services import unique

pytestmark = pytest.mark.fault

ROUNDS = 150


@pytest.fixture
async def place(redis: str) -> AsyncIterator[RedisPlace]:
    async with Ways.to(redis, unique("directory"), count=40) as ways:
        place = RedisPlace(ways)
        yield place
        await place.lose_everything()


class Storm:
    """Nodes that come, crash and leave, are cut off and heal; sessions that come and go; a Redis that forgets."""

    def __init__(self, place: RedisPlace, rng: random.Random) -> None:
        self.place = place
        self.rng = rng
        self.bench = Bench(place)
        self.own: dict[str, dict[str, SessionRecord]] = {}
        self.cut: set[str] = set()
        self.adding: set[asyncio.Task[None]] = set()
        self.since = 0

    @property
    def living(self) -> list[Node]:
        return [node for node in self.bench.all if node.lives]

    async def run(self) -> None:
        for _ in range(3):
            await self.join()
        steps = [self.add] * 8 + [self.remove] * 4 + [self.trouble] * 2 + [self.heal] * 2 + [self.pause] * 4
        steps += [self.join, self.end, self.forget]
        for _ in range(ROUNDS):
            await self.rng.choice(steps)()

    async def join(self) -> None:
        if len(self.living) < 5:
            node = await self.bench.node()
            self.own[node.id] = {}

    async def end(self) -> None:
        if len(self.living) < 3:
            return
        node = self.rng.choice(self.living)
        self.own.pop(node.id)
        self.cut.discard(node.id)
        if self.rng.random() < 0.5:
            await self.bench.crash(node)
        else:
            node.lives = False
            await node.directory.close()

    async def add(self) -> None:
        node = self.rng.choice(self.living)
        for _ in range(self.rng.randrange(1, 30)):
            self.since += 1
            session = node.session(f"s{self.since}", f"ui/{self.rng.randrange(13)}", self.since)
            task = asyncio.ensure_future(self._add(node, session))
            self.adding.add(task)
            task.add_done_callback(self.adding.discard)

    async def _add(self, node: Node, session: SessionRecord) -> None:
        own = self.own.get(node.id, {})
        own[session.id] = session
        try:
            await node.directory.add(session)
        except StorageError:
            if own.get(session.id) == session:
                del own[session.id]

    async def remove(self) -> None:
        node = self.rng.choice(self.living)
        own = self.own[node.id]
        for id_ in self.rng.sample(sorted(own), len(own) // 3):
            node.directory.remove(own.pop(id_))

    async def trouble(self) -> None:
        node = self.rng.choice(self.living)
        self.cut.add(node.id)
        self.place.ways.cut(node.directory)

    async def heal(self) -> None:
        for node in self.living:
            if node.id in self.cut:
                self.cut.discard(node.id)
                self.place.ways.heal(node.directory)

    async def forget(self) -> None:
        await self.place.lose_everything()

    async def pause(self) -> None:
        for _ in range(self.rng.randrange(1, 8)):
            await self.bench.step()

    async def quiet(self) -> list[SessionRecord]:
        await self.heal()
        await wait_for(lambda: not self.adding and not any(node.directory.trouble() for node in self.living))
        await self.bench.pass_leases(1.2)
        return in_order(session for own in self.own.values() for session in own.values())


@pytest.mark.parametrize("seed", range(4))
async def test_when_it_is_over_every_view_is_the_truth(place: RedisPlace, seed: int) -> None:
    storm = Storm(place, random.Random(seed))
    await storm.run()
    truth = sorted(await storm.quiet(), key=whole)

    async def view(node: Node) -> list[SessionRecord]:
        return sorted(await node.everything(), key=whole)

    await storm.bench.all_become(truth, view)
    await storm.bench.all_become([node.id for node in storm.living], Node.node_ids)
    async with place.ways.straight() as redis:

        async def members() -> int:
            return sum([await redis.call("", "ZCARD", sessions_key(redis, number)) for number in range(PARTITIONS)])

        await storm.bench.becomes(len(truth), members)
    await storm.bench.close()


def whole(session: SessionRecord) -> tuple[str, str, str]:
    return session.actor, session.id, session.node
