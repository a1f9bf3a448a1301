"""The built wheel, alone in an empty environment, is the whole program."""

import http.client
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT, ServerProcess, serve

__all__: list[str] = []

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONSTRAINTS = ROOT / "constraints.txt"


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", ROOT, "--no-deps", "--build-constraint", CONSTRAINTS, "--wheel-dir", folder, folder=folder)
    return next(folder.glob("smart_router-*.whl"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`smart-router` of an environment that holds the wheel and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    run(folder / "venv/bin/pip", "-q", "install", "--constraint", CONSTRAINTS, wheel, folder=folder)
    return folder / "venv/bin/smart-router"


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    folders = {name.partition("/")[0] for name in files_of(wheel)}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"smart_router"}


def test_the_wheel_holds_all_that_the_repository_has(wheel: Path) -> None:
    source = ROOT / "src"
    there = {path.relative_to(source).as_posix() for path in (source / "smart_router").rglob("*") if path.is_file()}
    wanted = {name for name in there if "__pycache__" not in name} | {"smart_router/demo/smart-router.toml"}
    inside = files_of(wheel)
    assert wanted <= inside
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in inside)


def test_the_installed_program_shows_its_help(program: Path, tmp_path: Path) -> None:
    assert "serve" in run(program, "--help", folder=tmp_path)


def get(server: ServerProcess, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.address, server.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_installed_program_serves_the_demo_with_its_page(program: Path, tmp_path: Path) -> None:
    place = ("--port", "0", "--data", str(tmp_path / "data"))
    server = ServerProcess([str(program), "demo", *place], tmp_path / "logs", "demo", {"PYTHONPATH": ""})
    try:
        status, page = get(server, "/")
        assert status == 200
        scripts = [word for word in page.decode().split('"') if word.endswith(".js")]
        assert scripts
        assert [get(server, "/" + name.removeprefix("/"))[0] for name in scripts] == [200] * len(scripts)
    finally:
        status = server.stop()
    assert status == 0
    assert "Traceback" not in server.log()


def test_the_installed_program_serves_the_example(program: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/live_chat", tmp_path / "live_chat")
    config = tmp_path / "live_chat/smart-router.toml"
    place = ("--host", "127.0.0.1", "--port", "0", "--data", str(tmp_path / "data"))
    server = serve(("--config", str(config), *place), tmp_path / "logs", "server", {}, program)
    try:
        assert get(server, "/readyz")[0] == 200
    finally:
        status = server.stop()
    assert status == 0
    assert "Traceback" not in server.log()
