"""The schedule: the same for the same seed, within its time, with as many kills as were asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.schedule import SCENARIOS, schedule

__all__: list[str] = []

WITHOUT_KILLS = {"pauses", "storm", "stops", "broker-kills", "partitions", "frames", "rolling", "long-pauses"}


@given(scenario=st.sampled_from(sorted(SCENARIOS)), seed=st.integers(0, 2**32), kills=st.integers(1, 30))
def test_the_same_for_the_same_seed(scenario: str, seed: int, kills: int) -> None:
    steps = schedule(scenario, seed, 20.0, kills)
    assert steps == schedule(scenario, seed, 20.0, kills)
    assert steps == sorted(steps, key=lambda step: step.at)
    assert all(0 <= step.at <= 20 and 0 <= step.part <= 1 for step in steps)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_as_many_kills_as_asked_for(scenario: str) -> None:
    kills = [step for step in schedule(scenario, 1, 60.0, 20) if step.fault == "kill"]
    assert len(kills) == (0 if scenario in WITHOUT_KILLS else 20)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_another_seed_is_another_schedule(scenario: str) -> None:
    assert schedule(scenario, 1, 60.0, 20) != schedule(scenario, 2, 60.0, 20)
