"""Which faults happen when: from a seed, so that a failure can be run again."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

__all__ = ["ONE_NODE", "SCENARIOS", "SEVERAL_NODES", "Step", "schedule"]


class Step(msgspec.Struct, frozen=True):
    """At `at` seconds, `fault` to a `part` of what it concerns, for `seconds` if it has a length."""

    at: float
    fault: str
    part: float = 1.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.fault:<9} part {self.part:.2f}  for {self.seconds:.2f} s"


Scenario = Callable[[random.Random, float, int], list[Step]]


def schedule(scenario: str, seed: int, seconds: float, kills: int) -> list[Step]:
    """The steps in order of time, the same for the same arguments; all within `seconds`."""
    steps = SCENARIOS[scenario](random.Random(f"{seed} {scenario}"), seconds, kills)
    return sorted(steps, key=lambda step: step.at)


def _kills(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Kills at random times, one in each of `kills` equal parts of the time; restarted after up to half a second."""
    return [Step(at, "kill", seconds=rng.uniform(0, 0.5)) for at in _times(rng, seconds, kills)]


def _absent(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Kills while half of the receivers are away."""
    steps = _kills(rng, seconds, kills)
    away = min(3.0, seconds / 6)
    return steps + [Step(max(0.0, step.at - away / 2), "absent", 0.5, away) for step in steps]


def _cuts(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Kills while connections are cut: some with a FIN, some with a RST, just before and after."""
    steps = _kills(rng, seconds, kills)
    cuts = [Step(at, rng.choice(["fin", "rst"]), rng.uniform(0.1, 0.5)) for at in _times(rng, seconds, 3 * kills)]
    return steps + cuts + [Step(max(0.0, step.at - 0.02), "rst", 0.3) for step in steps]


def _half_open(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Kills while connections hang: silent in one direction or both."""
    steps = _kills(rng, seconds, kills)
    silences = ["silent", "silent-up", "silent-down"]
    return steps + [Step(at, rng.choice(silences), 0.3) for at in _times(rng, seconds, 2 * kills)]


def _slow(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Kills while connections are slow: late, or one byte at a time."""
    steps = _kills(rng, seconds, kills)
    slow = [Step(at, "delay", 0.3, rng.uniform(0.05, 0.5)) for at in _times(rng, seconds, kills)]
    return steps + slow + [Step(at, "trickle", 0.1) for at in _times(rng, seconds, kills)]


def _pauses(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """SIGSTOP for longer than the clients wait, now and then; then SIGCONT."""
    count = max(1, min(kills, int(seconds // 10)))
    return [Step(at, "pause", seconds=rng.uniform(1.0, 6.0)) for at in _times(rng, seconds, count)]


def _storm(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Every connection reset at once, now and then."""
    return [Step(at, "rst") for at in _times(rng, seconds, max(2, kills // 2))]


def _stops(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """SIGTERM under load: the server has to end by itself, with status 0."""
    count = max(1, min(kills, int(seconds // 10)))
    return [Step(at, "stop") for at in _times(rng, seconds, count)]


def _mixed(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """All of them, one after the other and on top of each other."""
    parts = (_absent, _cuts, _half_open, _slow)
    steps = [step for part in parts for step in part(rng, seconds, kills) if step.fault != "kill"]
    extra = [Step(rng.uniform(0, seconds), "stop"), Step(rng.uniform(0, seconds), "pause", seconds=3.0)]
    return _kills(rng, seconds, kills) + rng.sample(steps, len(steps) // 2) + extra


def _broker_kills(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """kill -9 of a node of the broker, which is started again within some seconds."""
    return [Step(at, "broker", seconds=rng.uniform(0.5, 3.0)) for at in _times(rng, seconds, kills)]


def _partitions(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Between one server and the broker nothing passes for a while; then all that was held does."""
    longest = min(20.0, seconds / 3)
    return [Step(at, "partition", seconds=rng.uniform(longest / 4, longest)) for at in _times(rng, seconds, kills)]


def _rolling(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """Every server is stopped by SIGTERM and started again, one after the other."""
    return [Step(seconds * rng.uniform(0.1, 0.3), "roll")]


def _long_pauses(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """SIGSTOP of one server for longer than its leases are, 30 s in a run of a minute or more."""
    pause = min(30.0, seconds * 0.6)
    return [Step(at, "pause", seconds=pause) for at in _times(rng, max(1.0, seconds - pause), 1 + (seconds > 100))]


def _frames(rng: random.Random, seconds: float, kills: int) -> list[Step]:
    """A server's connection to RabbitMQ ends before, in, or after an AMQP frame, at each kind of them in turn."""
    count = 4 * kills
    parts = [number / count for number in range(count)]
    rng.shuffle(parts)
    return [Step(at, "frame", part) for at, part in zip(_times(rng, seconds, count), parts, strict=True)]


SCENARIOS: dict[str, Scenario] = {
    "kills": _kills,
    "absent": _absent,
    "cuts": _cuts,
    "half-open": _half_open,
    "slow": _slow,
    "pauses": _pauses,
    "storm": _storm,
    "stops": _stops,
    "mixed": _mixed,
    "broker-kills": _broker_kills,
    "partitions": _partitions,
    "frames": _frames,
    "rolling": _rolling,
    "long-pauses": _long_pauses,
}

SEVERAL_NODES = ("kills", "broker-kills", "partitions", "frames", "rolling", "long-pauses")
ONE_NODE = tuple(name for name in SCENARIOS if name == "kills" or name not in SEVERAL_NODES)
"""What belongs to a full run, with one server and with several that share a broker."""


def _times(rng: random.Random, seconds: float, count: int) -> list[float]:
    """One time in each of `count` equal parts."""
    part = seconds / max(1, count)
    return [(number + rng.random()) * part for number in range(count)]
