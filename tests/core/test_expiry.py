"""Tokens that end while connected: told before, cut in time, by the wall clock."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from smart_router.clock import Deadlines
from smart_router.core.expiry import TokenWatch

START = 1_800_000_000_000


class TwoClocks:
    """Both clocks; the wall clock may jump alone."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.wall = START

    def monotonic(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return self.wall


class Bench:
    def __init__(self) -> None:
        self.clock = TwoClocks()
        self.heard: list[tuple[str, str]] = []
        self.deadlines = Deadlines(self.clock, asyncio.get_running_loop().call_at)
        self.watch: TokenWatch[str] = TokenWatch(
            self.clock,
            lambda key: self.heard.append(("expiring", key)),
            lambda key: self.heard.append(("expired", key)),
        )

    def add(self, key: str, seconds: float | None) -> None:
        self.watch.add(key, None if seconds is None else self.clock.wall + int(seconds * 1000))
        self.deadlines.watch(self.watch)

    def pass_time(self, seconds: float) -> None:
        """In steps of at most a second, as a loop's timer would; what is due is done."""
        end = self.clock.seconds + seconds
        while self.clock.seconds < end:
            step = min(1.0, end - self.clock.seconds)
            self.clock.seconds += step
            self.clock.wall += round(step * 1000)
            self.deadlines.run(self.clock.seconds)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Its loop never turns: `pass_time` does what its timer would."""
    bench = Bench()
    yield bench
    bench.deadlines.close()


async def test_told_thirty_seconds_before_then_cut(bench: Bench) -> None:
    bench.add("a", 60)
    bench.pass_time(29)
    assert bench.heard == []
    bench.pass_time(1)
    assert bench.heard == [("expiring", "a")]
    bench.pass_time(29)
    assert bench.heard == [("expiring", "a")]
    bench.pass_time(1)
    assert bench.heard == [("expiring", "a"), ("expired", "a")]
    assert bench.watch.statistics() == (0, 1, 1)
    assert bench.watch.deadline is None


async def test_a_short_token_is_told_at_once(bench: Bench) -> None:
    bench.add("a", 2)
    bench.pass_time(1)
    assert bench.heard == [("expiring", "a")]
    bench.pass_time(1)
    assert bench.heard == [("expiring", "a"), ("expired", "a")]


async def test_one_that_is_over_already_is_only_cut(bench: Bench) -> None:
    bench.add("a", -1)
    bench.pass_time(1)
    assert bench.heard == [("expired", "a")]


async def test_a_refreshed_token_is_told_again(bench: Bench) -> None:
    bench.add("a", 60)
    bench.pass_time(35)
    bench.add("a", 60)
    bench.pass_time(29)
    assert bench.heard == [("expiring", "a")]
    bench.pass_time(31)
    assert bench.heard == [("expiring", "a"), ("expiring", "a"), ("expired", "a")]


async def test_a_token_without_end_and_a_session_that_ended_are_not_watched(bench: Bench) -> None:
    bench.add("a", 60)
    bench.add("b", None)
    bench.watch.discard("a")
    bench.watch.discard("unknown")
    bench.pass_time(100)
    assert bench.heard == []
    assert bench.watch.statistics().watched == 0
    bench.add("c", 60)
    bench.add("c", None)
    bench.pass_time(100)
    assert bench.heard == []


async def test_a_wall_clock_that_jumps_forward_is_followed_within_a_second(bench: Bench) -> None:
    bench.add("a", 1800)
    bench.pass_time(10)
    bench.clock.wall += 3_600_000
    bench.pass_time(1)
    assert bench.heard == [("expired", "a")]


async def test_a_wall_clock_that_jumps_back_is_followed(bench: Bench) -> None:
    bench.add("a", 60)
    bench.pass_time(10)
    bench.clock.wall -= 3_600_000
    bench.pass_time(3_600)
    assert bench.heard == []
    bench.pass_time(50)
    assert bench.heard == [("expiring", "a"), ("expired", "a")]


async def test_a_wall_clock_that_stands_still_expires_nothing(bench: Bench) -> None:
    bench.add("a", 40)
    for _ in range(100):
        bench.clock.seconds += 1
        bench.deadlines.run(bench.clock.seconds)
    assert bench.heard == []


async def test_handlers_may_add_and_discard(bench: Bench) -> None:
    cut: list[str] = []

    def give_up(key: str) -> None:
        watch.discard(key)

    watch: TokenWatch[str] = TokenWatch(bench.clock, give_up, cut.append)
    watch.add("a", START + 1_000)
    watch.add("b", START - 1)
    watch.handle_timer(bench.clock.seconds)
    bench.clock.wall += 5_000
    watch.handle_timer(bench.clock.seconds)
    assert cut == ["b"]
    assert watch.deadline is None


async def test_many_sessions_that_end_leave_nothing(bench: Bench) -> None:
    for number in range(10_000):
        bench.add(f"s{number}", 3600)
        bench.watch.discard(f"s{number}")
    assert len(bench.watch._heap) <= 2
