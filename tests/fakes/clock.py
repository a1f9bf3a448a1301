"""A clock that stands still until a test moves it."""

import asyncio
from collections.abc import Callable

__all__ = ["FakeClock", "until"]

PATIENCE = 10.0


class FakeClock:
    """Both clocks. Far ahead of the event loop's, so that no timer of `Deadlines` fires by itself."""

    def __init__(self) -> None:
        self.now = 1e9
        self.wall = 1_800_000_000_000

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += round(seconds * 1000)


async def until(condition: Callable[[], object]) -> None:
    """Returns when it holds; fails the test when it does not come to hold."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for tells its progress in many ways
            await asyncio.sleep(0)
