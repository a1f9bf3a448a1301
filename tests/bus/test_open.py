"""Which bus belongs to which broker."""

import subprocess
import sys

import pytest

from smart_router.bus.local import LocalBus
from smart_router.bus.open import PROVIDERS, Provider, make_bus
from smart_router.bus.redis import RedisBus
from smart_router.clock import SystemClock
from smart_router.errors import ConfigError

CLOCK = SystemClock()


@pytest.mark.parametrize("url", ["embedded://", "embedded://memory", "embedded:///var/lib/x.db"])
def test_one_node_hears_itself_alone(url: str) -> None:
    bus = make_bus(url, "one", CLOCK)
    assert isinstance(bus, LocalBus)
    assert bus.node == "one"


@pytest.mark.parametrize("url", ["redis://127.0.0.1/0", "rediss://redis.example/1?prefix=x:"])
def test_redis(url: str) -> None:
    assert isinstance(make_bus(url, "one", CLOCK), RedisBus)


@pytest.mark.parametrize("url", ["", "carrier-pigeon://x", "pigeon"])
def test_another_is_refused_with_what_there_is(url: str) -> None:
    with pytest.raises(ConfigError, match=r"broker\.url: .*embedded://, redis://"):
        make_bus(url, "one", CLOCK)


@pytest.mark.parametrize("url", ["redis", "redis://:password@host:port"])
def test_a_wrong_redis_url_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigError, match=r"broker\.url"):
        make_bus(url, "one", CLOCK)


def test_a_missing_package_names_the_extra() -> None:
    providers = {"redis": Provider("smart_router.bus.redis_without_package", "from_url", "redis")}
    with pytest.raises(ConfigError, match=r"pip install 'smart-router\[redis\]'"):
        make_bus("redis://127.0.0.1", "one", CLOCK, providers)


def test_a_provider_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, smart_router.bus.open; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    modules = {provider.module for provider in PROVIDERS.values()} | {"hiredis"}
    subprocess.run([sys.executable, "-c", program, *modules], check=True)
