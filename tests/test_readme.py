"""What README and the pages under docs show works as shown, and what they name is there."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import PROGRAM, ROOT, LineProcess, ServerProcess, node, serve

__all__: list[str] = []

README = (ROOT / "README.md").read_text("utf-8")
HELLO = ROOT / "examples" / "hello"
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """The README's application, served from a folder that has it and nothing else."""
    (tmp_path / "hello.py").write_text(blocks("python")[0])
    arguments = ("hello:app", "--port", "0", "--data", str(tmp_path / "data"))
    process = serve(arguments, tmp_path / "logs", "server", {"PYTHONPATH": str(tmp_path)})
    yield process
    process.stop()
    assert "Traceback" not in process.log()


def ask(command: str, server: ServerProcess) -> str:
    assert command.startswith("smart-router ")
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "SMART_ROUTER_URL": server.url}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=15
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_are_the_files() -> None:
    assert blocks("python") == [(HELLO / "hello.py").read_text("utf-8")]
    assert blocks("js") == [(HELLO / "user.cjs").read_text("utf-8")]
    assert blocks("python")[0].count("\n") <= 20


def test_the_conversation_is_as_shown(server: ServerProcess) -> None:
    lines = blocks("console")[0].splitlines()
    for command, shown in zip(lines[::2], lines[1::2], strict=True):
        answer = ask(command.removeprefix("$ "), server).strip()
        assert re.fullmatch(".+?".join(re.escape(part) for part in shown.split("…")), answer), (shown, answer)


def test_an_ordinary_socketio_client_is_an_actor(server: ServerProcess, tmp_path: Path) -> None:
    script = tmp_path / "user.cjs"
    script.write_text(blocks("js")[0])
    environment = {"NODE_PATH": str(ROOT / "tests" / "clients" / "node_modules")}
    client = LineProcess([node(), str(script), server.url], tmp_path / "logs", "user", environment)
    try:
        assert client.read_line() == "the router says queued"
        assert '"Where is my parcel?"' in ask("smart-router listen --actor desk/carol --count 1", server)
        send = next(line for line in blocks("console")[0].splitlines() if " answer " in line)
        ask(send.removeprefix("$ "), server)
        assert client.read_line() == "desk/carol: On its way."
    finally:
        client.kill()
        client.stop()


def test_the_two_commands_are_there() -> None:
    for name in ("server", "test", "setup", "faults", "bench"):
        assert os.access(ROOT / "script" / name, os.X_OK)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", ["ARCHITECTURE.md", *sorted(f"docs/adr/{p.name}" for p in (ROOT / "docs/adr").iterdir())]
)
def test_named_files_are_there(page: str) -> None:
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / name).exists() or any((ROOT / "src" / "smart_router").rglob(name)), name


@every_page
def test_toml_and_python_there_can_be_read(page: Path) -> None:
    text = page.read_text("utf-8")
    for block in blocks("toml", text):
        tomllib.loads(block)
    for block in blocks("python", text):
        compile(block, str(page), "exec")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
    decisions = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in decisions


def test_the_node_in_a_program_runs_as_shown(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    [program] = [block for block in blocks("python", page) if "asyncio.run" in block]
    done = subprocess.run(
        [PROGRAM.parent / "python", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[('127.0.0.1', ")


def test_the_routes_shown_are_an_application() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    names: dict[str, object] = {}
    exec(blocks("python", page)[0], names)
    assert [(endpoint, type_) for endpoint, type_, _ in names["app"].routes] == [("ui", "talk"), ("*", "echo")]  # type: ignore[attr-defined]
