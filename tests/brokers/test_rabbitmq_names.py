"""Names in RabbitMQ (faults and limits, A5): injective, short enough, and nothing of ours looks like an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.brokers.rabbitmq_names import NORMAL, Names, is_prefix, priority_of, short_form
from smart_router.errors import ConfigError
from smart_router.message import is_address

segment = st.text("aZ0._~@:+-", min_size=1, max_size=128)
address = st.lists(segment, min_size=1, max_size=3).map("/".join)
priority = st.integers(0, 9)
names = Names("p" * 64)


@given(address, priority, address, priority)
def test_no_two_lanes_share_a_queue_or_a_key(one: str, first: int, other: str, second: int) -> None:
    assert is_address(one)
    same = (one, first) == (other, second)
    assert (names.queue(one, first) == names.queue(other, second)) == same
    assert (names.routing_key(one, first) == names.routing_key(other, second)) == same
    assert priority_of(names.routing_key(one, first)) == first


@given(address, priority)
def test_names_fit_and_ours_are_nobodys(one: str, priority: int) -> None:
    for name in (names.queue(one, priority), names.exchange(one), names.routing_key(one, priority)):
        assert len(name.encode()) <= 255
        assert name != names.dead
    assert short_form(one) == one or not is_address(short_form(one))


def test_what_can_be_an_exchange_s() -> None:
    plain = Names("sr")
    assert plain.exchange("agent/456/alice") == "sr/agent/456"
    assert plain.exchange("agent/456") == "sr/agent"
    assert plain.exchange("agent") == "sr/agent"
    assert plain.queue("agent/456/alice") == "sr/agent/456/alice"
    assert plain.queue("agent/456/alice", 8) == "sr/agent/456/alice#8"
    assert priority_of("agent/456/alice") == NORMAL


@given(st.text(max_size=80))
def test_prefixes(text: str) -> None:
    if is_prefix(text):
        assert Names(text).dead == f"{text}#dead"
    else:
        with pytest.raises(ConfigError):
            Names(text)
