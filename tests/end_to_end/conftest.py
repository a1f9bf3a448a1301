"""One server of the worked example and one Node process per client version for a whole module."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.actors import Actors
from tests.processes import ROOT, LineProcess, ServerProcess, run_node, serve

__all__ = ["APPS", "EXAMPLE", "StartActors"]

APPS = ROOT / "tests" / "end_to_end" / "apps"
EXAMPLE = ROOT / "examples" / "live_chat" / "smart-router.toml"
StartActors = Callable[[str], Actors]


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def config(request: pytest.FixtureRequest) -> Path:
    """examples/live_chat; a module with an app of its own names it: `CONFIG`."""
    return Path(getattr(request.module, "CONFIG", EXAMPLE))


@pytest.fixture(scope="module")
def server(module_folder: Path, config: Path) -> Iterator[ServerProcess]:
    """The server, as a user starts it. Tests use actors of their own names."""
    place = ("--port", "0", "--data", str(module_folder / "data"))
    server = serve(("--config", str(config), *place), module_folder, "server", {})
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
    assert "Traceback (most recent call last)" not in server.log(), server.log()


@pytest.fixture(scope="module")
def url(server: ServerProcess) -> str:
    return server.url


@pytest.fixture(scope="module")
def start_actors(module_folder: Path) -> Iterator[StartActors]:
    """The Node process of a client version, by the name of its package in tests/clients."""
    processes: dict[str, LineProcess] = {}
    hosts: dict[str, Actors] = {}

    def start(package: str) -> Actors:
        if package not in hosts:
            processes[package] = run_node("actors/actors.cjs", (package,), module_folder, package)
            hosts[package] = Actors(processes[package])
        return hosts[package]

    yield start
    for process in processes.values():
        process.stop()


@pytest.fixture
def actors(start_actors: StartActors) -> Actors:
    """The current Socket.IO client."""
    return start_actors("socket.io-client")


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses, for actors' own ids."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
