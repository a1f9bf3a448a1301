"""Commands as one types them: what they print, where, and their exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smart_router.cli.main import program
from tests.processes import PROGRAM, ROOT

GOOD = '[endpoints.ui]\nsub_endpoints = []\n[[routes]]\nendpoint = "ui"\ntype = "talk"\npublish = [{to = "ids.ui"}]\n'


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "URL", "TOKEN", "ACTOR", "PORT", "DATA"):
        monkeypatch.delenv(f"SMART_ROUTER_{name}", raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(program(), list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_check_config_sums_up_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "good.toml"
    file.write_text(GOOD)
    assert run("check-config", str(file)) == (0, f"{file}: no mistakes: 1 endpoint, 1 route, 2 gateways\n", "")


def test_check_config_says_every_mistake_and_status_2(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[endpoints.ui]\nmailbx = "actor"\nwindow = 0\n')
    assert run("check-config", str(file)) == (
        2,
        "",
        f"smart-router: 2 mistakes in the settings ({file})\n"
        "  unknown key `mailbx` in [endpoints.ui], line 2: did you mean `mailbox`?\n"
        "  `window` in [endpoints.ui], line 3: expected `int` >= 1\n",
    )


def test_check_config_looks_at_the_environment_as_serve_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "good.toml"
    file.write_text(GOOD)
    monkeypatch.setenv("SMART_ROUTER_PORT", "http")
    status, _, errors = run("check-config", str(file))
    assert (status, errors.splitlines()[1]) == (2, "  SMART_ROUTER_PORT: expected `int`, got `str`")
    assert run("check-config", "--no-environment", str(file))[0] == 0


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/*/smart-router.toml")), ids=lambda file: file.parent.name)
def test_the_installed_program_finds_no_mistake_in_the_examples(file: Path) -> None:
    done = subprocess.run([PROGRAM, "check-config", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_program_says_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("[server\n")
    done = subprocess.run([PROGRAM, "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"smart-router: one mistake in the settings ({file})\n  not TOML: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["revoke"], "say either --subject or --jti"),
        (["revoke", "--subject", "a", "--jti", "b"], "say either --subject or --jti"),
        (["revoke", "--subject", "a", "--url", "localhost"], "`localhost` is no address of a router"),
        (["send", "talk", "--actor", "ui/1", "--url", "localhost"], "`localhost` is no address of a router"),
        (["send", "talk", "hello", "--actor", "ui/1"], "the payload is not JSON"),
        (["send", "talk", "--actor", "ui/1", "--id", "agent"], "`agent` is no id: write it as agent=agent/456/bot"),
        (["send", "talk", "--actor", "alice"], "`alice` is no actor: write endpoint/own or endpoint/sub/own"),
        (["listen", "--actor", "a b"], "`a b` is no actor"),
        (["serve", "--port", "70000"], "--port: expected `int` <= 65535"),
        (["serve", "--config", "/nowhere.toml"], "no such file: /nowhere.toml"),
        (["serve", "--host", "0.0.0.0"], "there is no authentication"),
        (["demo", "--port", "-1"], "--port: expected `int` >= 0"),
        (["send", "talk"], "Missing option '--actor'"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_a_text(arguments: list[str], text: str) -> None:
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert text in " ".join(errors.replace("│", " ").split())


def test_a_router_that_is_not_there() -> None:
    status, output, errors = run("revoke", "--subject", "a", "--url", "http://127.0.0.1:1")
    assert (status, output) == (1, "")
    assert errors == "smart-router: no router answers at http://127.0.0.1:1: Connection refused\n"


def test_version_and_help() -> None:
    assert run("version")[1].startswith("smart-router 0.")
    status, output, _ = run("--help")
    assert status == 0
    for command in ("serve", "demo", "check-config", "send", "listen", "check", "revoke", "bench", "version"):
        assert command in output


def test_ids_given_twice_become_a_list() -> None:
    from smart_router.cli.talking import parse_ids

    assert parse_ids(["ui=ui/1", "agent=agent/2", "ui=ui/3"]) == {"ui": ["ui/1", "ui/3"], "agent": "agent/2"}


@pytest.mark.parametrize(
    ("url", "websocket"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
        ("https://chat.example/", "wss://chat.example/ws"),
        ("wss://chat.example/router/ws", "wss://chat.example/router/ws"),
    ],
)
def test_the_plain_protocol_is_found_from_the_routers_address(url: str, websocket: str) -> None:
    from smart_router.cli.talking import websocket_url

    assert websocket_url(url) == websocket


@pytest.mark.parametrize(
    ("app", "route", "problem"),
    [
        ("cli_app:app", "ui", None),
        ("cli_app:app", "uii", "`endpoint` in [[routes]], line 3: no endpoint `uii`: did you mean `ui`?"),
        ("cli_app:other", "ui", "`app` in the top table, line 1: `cli_app:other` is of type int: name a SmartRouter"),
        ("cli_app:absent", "ui", "`app` in the top table, line 1: module `cli_app` has no `absent`"),
    ],
)
def test_routes_are_checked_against_the_applications_endpoints(
    app: str, route: str, problem: str | None, tmp_path: Path
) -> None:
    (tmp_path / "cli_app.py").write_text(
        "from smart_router.app import SmartRouter\napp = SmartRouter()\nui = app.endpoint('ui/{id}')\nother = 3\n"
    )
    file = tmp_path / "smart-router.toml"
    file.write_text(f'app = "{app}"\n[[routes]]\nendpoint = "{route}"\ntype = "talk"\npublish = [{{to = "ids.ui"}}]\n')
    done = subprocess.run([PROGRAM, "check-config", file], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[1:] == ([f"  {problem}"] if problem else [])
    assert done.returncode == (2 if problem else 0)
