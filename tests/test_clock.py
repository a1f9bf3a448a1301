"""Deadlines: who is due gets its turn, and one that stays due starves nobody."""

import asyncio

from smart_router.clock import Deadlines, SystemClock

__all__: list[str] = []


class Alarm:
    """Rings when its time has come; `stubborn`: stays due."""

    def __init__(self, when: float, *, stubborn: bool = False) -> None:
        self.deadline: float | None = when
        self.queued: float | None = None
        self.rung = asyncio.Event()
        self._stubborn = stubborn

    def handle_timer(self, now: float) -> None:
        self.rung.set()
        if not self._stubborn:
            self.deadline = None


async def test_one_that_stays_due_starves_nobody() -> None:
    clock = SystemClock()
    deadlines = Deadlines(clock, asyncio.get_running_loop().call_at)
    stubborn, later = Alarm(clock.monotonic(), stubborn=True), Alarm(clock.monotonic() + 0.02)
    for alarm in (stubborn, later):
        deadlines.watch(alarm)
    await asyncio.wait_for(later.rung.wait(), 10)
    assert stubborn.rung.is_set()
    deadlines.close()
    assert len(deadlines) == 0
