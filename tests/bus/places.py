"""Places of the bus for the contract suite."""

from smart_router.bus.base import Bus
from smart_router.bus.redis import RedisBus
from tests.fakes.redis import StraightWays, Ways

__all__ = ["RedisPlace"]


class RedisPlace:
    def __init__(self, ways: Ways | StraightWays) -> None:
        self.ways = ways

    def make(self, node: str, installation: str = "") -> Bus:
        url, proxy = self.ways.take(installation)
        bus = RedisBus(url, node)
        self.ways.give(bus, proxy)
        return bus

    async def cut(self, bus: Bus) -> None:
        self.ways.cut(bus)

    async def heal(self, bus: Bus) -> None:
        self.ways.heal(bus)

    async def meddle(self, bus: Bus) -> int:
        strange = [b"", b"1", b"1 a b", b"2 a news x", b"1 \xff news x", b"1 a \xff x", b"1 a  0", b"\x00" * 100]
        async with self.ways.straight() as redis:
            for channel in (redis.channel("bus/0"), redis.channel(f"bus/0/{bus.node}")):
                for message in strange:
                    redis.publish(channel, message)
            await redis.call("", "PING")
        return 2 * len(strange)
