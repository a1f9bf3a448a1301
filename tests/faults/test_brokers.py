"""The brokers of the scenarios: the same URL by another way; kill -9 of one of their nodes, and back with its data."""

import random
import shutil
from pathlib import Path

import pytest

from faults.brokers import Broker, open_broker
from tests.clusters.wire import redis_call

__all__: list[str] = []

WAYS = [
    ("embedded://", [], "embedded://"),
    ("amqp://u:p%40@h/v%2F?heartbeat=3", [("h", 5672)], "amqp://u:p%40@127.0.0.1:7/v%2F?heartbeat=3"),
    ("amqp://h:1,i,j:3/", [("h", 1), ("i", 5672), ("j", 3)], "amqp://127.0.0.1:7,127.0.0.1:8,127.0.0.1:9/"),
    ("redis://:p@h/2", [("h", 6379)], "redis://:p@127.0.0.1:7/2"),
]


@pytest.mark.parametrize(("url", "places", "other"), WAYS)
def test_the_same_url_by_another_way(url: str, places: list[tuple[str, int]], other: str) -> None:
    broker = Broker(url)
    assert broker.places == places
    assert broker.by_way_of([("127.0.0.1", 7 + number) for number in range(len(places))]) == other
    assert not broker.can_be_killed


async def test_a_redis_that_was_killed_comes_back_with_what_it_had(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    with open_broker("redis", tmp_path) as broker:
        (place,) = broker.places
        assert redis_call(place, ["SET", "key", "value"]) == "+OK"
        await broker.kill_one(random.Random(1))
        with pytest.raises(ConnectionRefusedError):
            redis_call(place, ["PING"])
        await broker.bring_back()
        assert redis_call(place, ["GET", "key"]) == "value"
