"""One server without and one with authentication for a module; what they have logged is looked at in the end (A7)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ServerProcess, serve
from tests.security.ports import TOKENS, check_log, configuration

__all__: list[str] = []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


def running(folder: Path, name: str, *parts: str) -> Iterator[ServerProcess]:
    place = ("--port", "0", "--drain", "0.3", "--data", str(folder / name / "data"))
    server = serve(("--config", configuration(folder / name, *parts), *place), folder, name, {})
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
    check_log(server)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    """Everybody may come; tests use actors of their own names."""
    yield from running(folder, "open")


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[ServerProcess]:
    """JWTs with `SECRET`, and the static token `ADMIN`."""
    yield from running(folder, "guarded", TOKENS)
