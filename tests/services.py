"""The Redis and RabbitMQ that tests use.

The machine's, or those that the environment names: the fixtures `amqp` and `redis` (tests/conftest.py) give their URL,
or skip the test with the reason. They are shared with other tests and other programs: use names that nobody else has
(`unique`), and take away what you made. `amqp_vhost` gives the URL of a virtual host of the session's own (that of
SMART_ROUTER_TEST_AMQP when it is set); what is in it goes with it.

    async def test_x(redis: str) -> None:
        prefix = unique("test")

For what stops, kills or configures a server: one of your own, by the fixtures `own_redis` and `own_rabbit`. They start
on free ports and an own folder, with everything on disk, and are gone after the test:

    async def test_y(own_redis: StartRedis) -> None:
        redis = await asyncio.to_thread(own_redis)                    # or own_redis(password="…"), replica_of=, tls=
        redis.kill()                                                  # -9; stop() is SIGTERM; pause(), resume()
        await asyncio.to_thread(redis.start)                          # same port, same data

`own_rabbit` likewise (5 to 7 s to start: share one in a module where you can; `ctl("list_queues")` asks it). Clusters:
the fixtures
`rabbit_cluster` and `redis_cluster` (tests/clusters; half a minute and two seconds to start, once a session; whole
again after each test).
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tests.clusters.rabbitmq import OwnRabbit
from tests.clusters.redis import OwnRedis, Tls
from tests.clusters.wire import amqp_answers, redis_answers

__all__ = [
    "AMQP_VARIABLE",
    "REDIS_VARIABLE",
    "OwnRabbit",
    "OwnRedis",
    "Service",
    "StartRabbit",
    "StartRedis",
    "Tls",
    "amqp_url",
    "own_vhost",
    "redis_url",
    "unique",
]

AMQP_VARIABLE = "SMART_ROUTER_TEST_AMQP"
REDIS_VARIABLE = "SMART_ROUTER_TEST_REDIS"


class Service(NamedTuple):
    """A server for tests: its URL, or why there is none."""

    url: str | None
    reason: str = ""


class StartRedis(Protocol):
    """Starts a Redis of the test's own; arguments as OwnRedis's, without the folder."""

    def __call__(
        self,
        *arguments: str,
        password: str = "",
        replica_of: tuple[str, int] | None = None,
        tls: Tls | None = None,
    ) -> OwnRedis: ...


class StartRabbit(Protocol):
    """Starts a RabbitMQ of the test's own."""

    def __call__(self) -> OwnRabbit: ...


def amqp_url() -> Service:
    """RabbitMQ: what SMART_ROUTER_TEST_AMQP names (believed), else guest:guest on 127.0.0.1:5672 if it answers."""
    return _find("RabbitMQ", AMQP_VARIABLE, "amqp://guest:guest@127.0.0.1:5672/", amqp_answers)


def redis_url() -> Service:
    """Redis: what SMART_ROUTER_TEST_REDIS names (believed), else 127.0.0.1:6379 if it answers."""
    return _find("Redis", REDIS_VARIABLE, "redis://127.0.0.1:6379/0", redis_answers)


@contextmanager
def own_vhost(url: str) -> Iterator[str]:
    """The URL of a new virtual host of the local RabbitMQ, deleted at the end; a URL that was named stays as it is."""
    if os.environ.get(AMQP_VARIABLE):
        yield url
        return
    name = unique("test")
    _ctl("add_vhost", name)
    try:
        _ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield f"{url.rpartition('/')[0]}/{name}"
    finally:
        _ctl("delete_vhost", name)


def unique(prefix: str) -> str:
    """A name that nobody else has."""
    return f"{prefix}-{secrets.token_hex(6)}"


def _find(name: str, variable: str, usual: str, answers: Callable[[str, int], bool]) -> Service:
    named = os.environ.get(variable)
    if named:
        return Service(named)
    parts = urlsplit(usual)
    assert parts.hostname is not None
    assert parts.port is not None
    if answers(parts.hostname, parts.port):
        return Service(usual)
    return Service(None, f"no {name} at {parts.hostname}:{parts.port}: run script/services, or set {variable}")


def _ctl(*arguments: str) -> None:
    program = shutil.which("rabbitmqctl", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, f"no rabbitmqctl to make a virtual host with: set {AMQP_VARIABLE}"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"rabbitmqctl {arguments[0]}: {done.stderr} (or set {AMQP_VARIABLE})"
