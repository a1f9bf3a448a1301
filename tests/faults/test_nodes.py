"""script/faults in its short form with three servers on one broker: two kills each, or each other trouble twice.

A rolling restart: test_rolling_restart.py.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.brokers import Broker, OpenBroker, RabbitBroker, open_broker
from faults.main import main
from tests.clusters.rabbit_cluster import RabbitCluster
from tests.services import unique

__all__: list[str] = []

WORK = ("--nodes", "3", "--class", "received", "--class", "client", "--clients", "24", "--rate", "100", "--kills", "2")
RABBITMQ = {"kills": 12, "broker-kills": 24, "partitions": 20, "frames": 15, "long-pauses": 20}
REDIS = {"kills": 12, "broker-kills": 12, "partitions": 36, "long-pauses": 20}
"""Seconds. With seed 10 the partitions of Redis last 11 s each: longer than a lease. Of a long pause: 60 %."""


def run(open_: OpenBroker, broker: str, scenario: str, seconds: int, folder: Path) -> int:
    time = ("--seconds", str(seconds), "--seed", "10")
    return main(["--broker", broker, "--scenario", scenario, *WORK, *time, "--keep", str(folder)], open_)


@pytest.mark.fault
@pytest.mark.parametrize("scenario", RABBITMQ)
def test_rabbitmq(
    scenario: str, rabbit_cluster: RabbitCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vhost = unique("faults")

    @contextmanager
    def open_vhost(name: str, folder: Path) -> Iterator[Broker]:
        rabbit_cluster.alive.ctl("add_vhost", vhost)
        rabbit_cluster.alive.ctl("set_permissions", "--vhost", vhost, "guest", ".*", ".*", ".*")
        yield RabbitBroker(rabbit_cluster, vhost)
        rabbit_cluster.alive.ctl("delete_vhost", vhost)

    status = run(open_vhost, "rabbitmq", scenario, RABBITMQ[scenario], tmp_path)
    assert status == 0, capsys.readouterr().out


@pytest.mark.fault
@pytest.mark.parametrize("scenario", REDIS)
def test_redis(scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    status = run(open_broker, "redis", scenario, REDIS[scenario], tmp_path)
    assert status == 0, capsys.readouterr().out


@pytest.mark.fault
def test_redis_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    status = run(open_broker, "redis-cluster", "broker-kills", 20, tmp_path)
    assert status == 0, capsys.readouterr().out
