"""Which directory belongs to which broker, and how a setting says otherwise."""

import subprocess
import sys

import pytest

from smart_router.bus.local import LocalBus
from smart_router.clock import SystemClock
from smart_router.directory.base import Directory
from smart_router.directory.bus import BusDirectory
from smart_router.directory.local import LocalDirectory
from smart_router.directory.open import make_directory
from smart_router.directory.redis import RedisDirectory
from smart_router.errors import ConfigError

REDIS = "redis://127.0.0.1/0"


def made(setting: str | None, broker: str) -> Directory:
    return make_directory(setting, broker, LocalBus("one"), SystemClock())


@pytest.mark.parametrize(
    ("setting", "broker", "kind"),
    [
        (None, "embedded://", LocalDirectory),
        (None, "embedded://memory", LocalDirectory),
        (None, "amqp://rabbit/", BusDirectory),
        (None, "amqps://rabbit/", BusDirectory),
        (None, REDIS, RedisDirectory),
        (None, "rediss://redis.example", RedisDirectory),
        ("bus", REDIS, BusDirectory),
        ("bus", "embedded://", BusDirectory),
        ("local", "amqp://rabbit/", LocalDirectory),
        (REDIS, "amqp://rabbit/", RedisDirectory),
    ],
)
def test_the_setting_or_else_the_broker_says_which(setting: str | None, broker: str, kind: type) -> None:
    assert isinstance(made(setting, broker), kind)


@pytest.mark.parametrize("setting", ["zookeeper", "redis", "memcached://x", "sqlite:///"])
def test_another_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="directory: write `local`, `bus`, or a Redis"):
        made(setting, "embedded://")


def test_a_wrong_url_names_the_setting_it_comes_from() -> None:
    with pytest.raises(ConfigError, match=r"^directory: "):
        made("redis://host:port", "amqp://rabbit/")
    with pytest.raises(ConfigError, match=r"^broker\.url: "):
        made(None, "redis://host:port")


def test_a_missing_package_names_the_extra() -> None:
    program = """
import sys
sys.modules["hiredis"] = None  # as if it were not installed
from smart_router.bus.local import LocalBus
from smart_router.clock import SystemClock
from smart_router.directory.open import make_directory
from smart_router.errors import ConfigError
try:
    make_directory("redis://127.0.0.1", "embedded://", LocalBus("one"), SystemClock())
except ConfigError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "directory: redis:// needs the package hiredis: pip install 'smart-router[redis]'\n"
