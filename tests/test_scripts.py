"""The scripts a newcomer types, in a copy of the repository, with stand-ins for the programs of the machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

__all__: list[str] = []

SCRIPTS = [
    ROOT / "script" / name for name in ("setup", "server", "test", "node-clients", "chromium", "compile", "services")
]
ORDINARY = ("basename", "cat", "cmp", "cp", "dirname", "grep", "mkdir", "mktemp", "rm", "sed", "sh", "sleep", "tail")

MISSING = ["RabbitMQ", "Redis", "HAProxy"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH with nothing on it but ordinary tools; `stand_in` adds to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ORDINARY:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copytree(ROOT / "script", folder / "script", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def stand_in(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)


def run(script: Path, *arguments: str, machine: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(machine), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [script, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=15
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.name))
def test_a_script_is_executable_and_explains_itself(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[1].startswith("# ")
    subprocess.run(["sh", "-n", script], check=True)


class TestSetup:
    def test_says_what_is_missing_when_python_is_too_old(self, clone: Path, machine: Path) -> None:
        for name in ("python3.11", "python3.12", "python3.13", "python3", "python"):
            stand_in(machine / name, "exit 1")
        done = run(clone / "script/setup", machine=machine)
        assert done.returncode == 1
        assert "needs Python 3.11 or newer" in done.stderr
        assert not (clone / ".venv").exists()

    def test_refuses_what_it_does_not_know(self, clone: Path, machine: Path) -> None:
        done = run(clone / "script/setup", "everything", machine=machine)
        assert done.returncode == 1
        assert "usage" in done.stderr

    def test_installs_once_and_again_only_after_a_change(self, clone: Path, machine: Path) -> None:
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, clone)
        calls = clone / "pip-calls"
        python = f'case "$*" in "-m pip "*) echo "$*" >> {calls} ;; *) exec {sys.executable} "$@" ;; esac'
        stand_in(clone / ".venv/bin/python", python)
        stand_in(clone / ".venv/bin/smart-router", "exit 0")

        def installs(*arguments: str) -> int:
            calls.write_text("")
            done = run(clone / "script/setup", *arguments, machine=machine)
            assert done.returncode == 0, done.stderr
            return calls.read_text().count("--editable")

        assert [installs("test"), installs("test"), installs()] == [1, 0, 0]
        with (clone / "constraints.txt").open("a") as constraints:
            constraints.write("# changed\n")
        assert [installs(), installs(), installs("test"), installs("test")] == [1, 0, 1, 0]


class TestServer:
    @pytest.fixture(autouse=True)
    def program(self, clone: Path) -> None:
        stand_in(clone / "script/setup", "echo set up")
        stand_in(clone / ".venv/bin/smart-router", 'echo "$*"')

    def start(self, clone: Path, machine: Path, *arguments: str) -> list[str]:
        done = run(clone / "script/server", *arguments, machine=machine)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def test_without_arguments_says_where_the_demo_is(self, clone: Path, machine: Path) -> None:
        done = run(clone / "script/server", machine=machine)
        assert "http://127.0.0.1:8080" in done.stderr
        assert done.stdout.splitlines()[1] == f"serve --config {clone}/examples/live_chat/smart-router.toml --demo"

    @pytest.mark.parametrize(
        "arguments",
        [("--config", "a.toml"), ("--config=a.toml", "--port", "1"), ("chat:app",), ("--port", "1", "chat.main:app")],
    )
    def test_an_app_or_a_config_goes_on_as_it_is(self, clone: Path, machine: Path, arguments: tuple[str, ...]) -> None:
        assert self.start(clone, machine, *arguments) == ["set up", " ".join(("serve", *arguments))]

    @pytest.mark.parametrize(
        "arguments", [("--help",), ("--port", "0"), ("--host", "127.0.0.1:9"), ("--data", "/tmp/x")]
    )
    def test_other_arguments_are_for_the_demo(self, clone: Path, machine: Path, arguments: tuple[str, ...]) -> None:
        config = f"{clone}/examples/live_chat/smart-router.toml"
        assert self.start(clone, machine, *arguments)[1] == " ".join(
            ("serve", "--config", config, "--demo", *arguments)
        )


class TestChromium:
    def run(self, clone: Path, machine: Path) -> str:
        done = run(clone / "script/chromium", machine=machine)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_says_nothing_when_there_is_one(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "chromium", "exit 0")
        assert self.run(clone, machine) == ""

    def test_without_root_says_why_there_is_none(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "id", "echo 1000")
        assert "needs root" in self.run(clone, machine)

    def test_without_debian_says_why_there_is_none(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "id", "echo 0")
        assert "no apt-get" in self.run(clone, machine)

    def test_as_root_installs_it(self, clone: Path, machine: Path, tmp_path: Path) -> None:
        stand_in(machine / "id", "echo 0")
        stand_in(machine / "apt-get", f'echo "$*" >> {tmp_path}/apt')
        assert self.run(clone, machine) == ""
        assert (tmp_path / "apt").read_text().splitlines() == [
            "update",
            "install --yes --no-install-recommends chromium",
        ]

    def test_an_installation_that_fails_is_the_reason(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "id", "echo 0")
        stand_in(machine / "apt-get", "echo 'E: no such mirror' >&2; exit 100")
        assert self.run(clone, machine) == "no Chromium: E: no such mirror\n"


class TestServices:
    """A service `answers` as soon as the file of its name stands in the folder `up`."""

    @pytest.fixture(autouse=True)
    def up(self, clone: Path) -> Path:
        up = clone / "up"
        up.mkdir()
        answers = f'case "$2" in *amqp_url*) test -f {up}/amqp ;; *) test -f {up}/redis ;; esac'
        stand_in(clone / ".venv/bin/python", answers)
        return up

    def run(self, clone: Path, machine: Path) -> list[str]:
        done = run(clone / "script/services", machine=machine)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def test_does_nothing_while_they_answer(self, clone: Path, machine: Path, up: Path) -> None:
        for name in ("amqp", "redis"):
            (up / name).touch()
        stand_in(machine / "haproxy", "exit 1")
        assert self.run(clone, machine) == []

    def test_without_root_says_what_is_missing(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "id", "echo 1000")
        lines = self.run(clone, machine)
        assert [line.partition(":")[0] for line in lines] == MISSING
        assert all("needs root" in line for line in lines)

    def test_as_root_installs_and_starts_what_is_missing(self, clone: Path, machine: Path, up: Path) -> None:
        (up / "amqp").touch()
        stand_in(machine / "id", "echo 0")
        stand_in(machine / "apt-get", f'echo "$*" >> {clone}/apt')
        stand_in(machine / "su", f'echo "$1 $5" >> {clone}/su; echo > {up}/redis')
        assert self.run(clone, machine) == []
        installed = [line for line in (clone / "apt").read_text().splitlines() if line != "update"]
        assert [line.rpartition(" ")[2] for line in installed] == ["redis-server", "haproxy"]
        assert "redis-server --bind 127.0.0.1" in (clone / "su").read_text()

    def test_an_installation_that_fails_is_the_reason(self, clone: Path, machine: Path) -> None:
        stand_in(machine / "id", "echo 0")
        stand_in(machine / "apt-get", "echo 'E: no such mirror' >&2; exit 100")
        assert self.run(clone, machine) == [f"{name}: E: no such mirror" for name in MISSING]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_server_help_on_a_fresh_clone_leaves_a_working_environment(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    done = subprocess.run([tmp_path / "script/server", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout
    assert (tmp_path / ".venv/bin/smart-router").exists()
