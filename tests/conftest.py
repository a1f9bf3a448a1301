"""What every test may ask for. Async tests run on uvloop, as the program does."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop

from tests.clusters.rabbit_cluster import RabbitCluster
from tests.clusters.rabbitmq import rabbitmq_program
from tests.clusters.redis_cluster import RedisCluster
from tests.processes import LineProcess, ServerProcess, run_node, serve
from tests.services import (
    OwnRabbit,
    OwnRedis,
    Service,
    StartRabbit,
    StartRedis,
    Tls,
    amqp_url,
    own_vhost,
    redis_url,
    unique,
)

__all__ = ["StartNodeClient", "StartServer"]

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FAULT_TIMEOUT = 300
WHOLE_PROGRAM = ("tests/end_to_end", "tests/security", "tests/cli/test_talking.py", "tests/cli/test_operating.py")
OTHER_SERVERS = (
    "tests/amqp",
    "tests/api/test_brokers.py",
    "tests/brokers/test_rabbitmq",
    "tests/brokers/test_redis",
    "tests/bus/test_amqp.py",
    "tests/bus/test_redis",
    "tests/deploy",
    "tests/directory/test_redis",
    "tests/faults/test_brokers.py",
    "tests/redis",
    "tests/stores/test_postgresql",
    "tests/test_services.py",
)
WHOLE_NODES = (
    "tests/api/test_dead_letters.py",
    "tests/api/test_mailboxes.py",
    "tests/api/test_messages.py",
    "tests/api/test_sessions.py",
    "tests/directory/test_bus.py",
)
"""Tests that start servers, ask others', or make a node for each case: `slow`, but for those marked `smoke`."""


class StartServer(Protocol):
    """Starts `smart-router serve` and returns when it is ready; stopped, and its log searched, after the test."""

    def __call__(
        self,
        *arguments: str,
        port: int = 0,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServerProcess: ...


class StartNodeClient(Protocol):
    """Starts a script of tests/clients; stopped at the end of the test."""

    def __call__(self, script: str, *arguments: str) -> LineProcess: ...


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], uvloop.Loop]]:
    return {"uvloop": new_loop}


def new_loop() -> uvloop.Loop:
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(end_at_the_time_limit)
    return loop


def end_at_the_time_limit(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The limit is raised by a signal handler, and uvloop gives what that raises to this function, not to the test."""
    error = context.get("exception")
    if not isinstance(error, pytest.fail.Exception):
        loop.default_exception_handler(context)
        return
    for task in asyncio.all_tasks(loop):
        task.cancel(str(error))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_browser = None if chromium_path() else pytest.mark.skip(reason="no Chromium is installed (script/chromium)")
    heavy = (*WHOLE_PROGRAM, *OTHER_SERVERS, *WHOLE_NODES)
    for item in items:
        if item.nodeid.startswith(heavy) and not item.get_closest_marker("smoke"):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("fault") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(FAULT_TIMEOUT))
        if no_browser and item.get_closest_marker("browser"):
            item.add_marker(no_browser)


def chromium_path() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the browser, for Playwright's `executable_path`. Tests that use it are marked `browser`."""
    path = chromium_path()
    assert path is not None, "a test that uses `chromium` must be marked browser"
    return path


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago. For what must know its port beforehand; all else uses port 0."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder for one node; the server makes it."""
    return tmp_path / "data"


@pytest.fixture
def start_server(tmp_path: Path, data_dir: Path) -> Iterator[StartServer]:
    """A factory of servers on 127.0.0.1, on any free port and on `data_dir` unless told otherwise."""
    servers: list[ServerProcess] = []

    def start(
        *arguments: str, port: int = 0, data: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> ServerProcess:
        place = ("--host", "127.0.0.1", "--port", str(port), "--data", str(data or data_dir))
        name = f"server-{len(servers) + 1}"
        server = serve((*arguments, *place), tmp_path / "logs", name, environment or {})
        servers.append(server)
        return server

    yield start
    stop_all(servers)
    for server in servers:
        assert "Traceback (most recent call last)" not in server.log(), server.log()


@pytest.fixture
def node_client(tmp_path: Path) -> Iterator[StartNodeClient]:
    """A factory of Node clients."""
    clients: list[LineProcess] = []

    def start(script: str, *arguments: str) -> LineProcess:
        name = f"{Path(script).stem}-{len(clients) + 1}"
        clients.append(run_node(script, arguments, tmp_path / "logs", name))
        return clients[-1]

    yield start
    stop_all(clients)


def stop_all(processes: list[ServerProcess] | list[LineProcess]) -> None:
    """Stops each of them even if one does not want to; the first complaint is raised at the end."""
    complaints: list[AssertionError] = []
    for process in processes:
        try:
            process.stop()
        except AssertionError as complaint:
            complaints.append(complaint)
    if complaints:
        raise complaints[0]


@pytest.fixture(scope="session")
def amqp() -> str:
    """The URL of the shared RabbitMQ (tests/services.py)."""
    return url_or_skip(amqp_url())


@pytest.fixture(scope="session")
def amqp_vhost(amqp: str) -> Iterator[str]:
    """The URL of a virtual host of this session's own (tests/services.py)."""
    with own_vhost(amqp) as url:
        yield url


@pytest.fixture(scope="session")
def redis() -> str:
    """The URL of the shared Redis (tests/services.py)."""
    return url_or_skip(redis_url())


def url_or_skip(service: Service) -> str:
    if service.url is None:
        pytest.skip(service.reason)
    return service.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """A factory of Redis servers of the test's own."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    with contextlib.ExitStack() as started:

        def start(
            *arguments: str, password: str = "", replica_of: tuple[str, int] | None = None, tls: Tls | None = None
        ) -> OwnRedis:
            folder = tmp_path / unique("redis")
            return started.enter_context(OwnRedis(folder, arguments, password, replica_of, tls))

        yield start


@pytest.fixture
def own_rabbit(tmp_path: Path) -> Iterator[StartRabbit]:
    """A factory of RabbitMQ nodes of the test's own."""
    if rabbitmq_program("rabbitmq-server") is None:
        pytest.skip("rabbitmq-server is not installed (script/services)")
    with contextlib.ExitStack() as started:
        yield lambda: started.enter_context(OwnRabbit(tmp_path / unique("rabbit")))


@pytest.fixture(scope="session")
def whole_rabbit_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitCluster]:
    if rabbitmq_program("rabbitmq-server") is None:
        pytest.skip("rabbitmq-server is not installed (script/services)")
    with RabbitCluster(tmp_path_factory.mktemp("rabbit-cluster")) as cluster:
        yield cluster


@pytest.fixture
def rabbit_cluster(whole_rabbit_cluster: RabbitCluster) -> Iterator[RabbitCluster]:
    """The session's RabbitMQ cluster (tests/clusters), whole again after each test."""
    yield whole_rabbit_cluster
    whole_rabbit_cluster.repair()


@pytest.fixture(scope="session")
def whole_redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(whole_redis_cluster: RedisCluster) -> Iterator[RedisCluster]:
    """The session's Redis Cluster (tests/clusters), whole again after each test."""
    yield whole_redis_cluster
    whole_redis_cluster.repair()
