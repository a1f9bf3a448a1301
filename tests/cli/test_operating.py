"""`mailboxes` and `dead-letters` beside a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smart_router.cli.main import program
from smart_router.cli.operator import milliseconds
from tests.processes import ServerProcess, serve

CONFIG = """
[[server.gateways]]
kind = "plain"
path = "/ws"
[endpoints.agent]
sub_endpoints = ["456"]
[endpoints.ui]
sub_endpoints = ["456"]
[[routes]]
endpoint = "ui"
type = "talk"
publish = [{to = "ids.agent"}]
"""
BOT = "agent/456/bot"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "smart-router.toml").write_text(CONFIG)
    arguments = ["--config", str(tmp_path / "smart-router.toml"), "--data", str(tmp_path / "data"), "--port", "0"]
    process = serve(arguments, tmp_path, "server", {})
    yield process
    assert process.stop() == 0


def run(server: ServerProcess, *arguments: str) -> tuple[int, str, str]:
    return command(*arguments, "--url", server.url)


def command(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(program(), list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def lines(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def send(server: ServerProcess, text: str) -> str:
    status, output, _ = run(server, "send", "talk", json.dumps(text), "--actor", "ui/456/u1", "--id", f"agent={BOT}")
    assert status == 0
    return str(json.loads(output)["id"])


def test_from_a_mailbox_to_the_dead_letters_and_back(server: ServerProcess) -> None:
    first, second = send(server, "one"), send(server, "two")

    _, output, _ = run(server, "mailboxes", "list", "agent/", "--json")
    assert [(row["address"], row["waiting"]) for row in lines(output)] == [(BOT, 2)]
    assert BOT in run(server, "mailboxes", "list")[1]
    status, output, _ = run(server, "mailboxes", "show", BOT)
    assert (status, first in output, second in output, "one" in output) == (0, True, True, False)
    bodies = lines(run(server, "mailboxes", "show", BOT, "--bodies")[1])
    assert [row["message"]["payload"] for row in bodies] == ["one", "two"]  # type: ignore[index]

    assert run(server, "mailboxes", "move", BOT, first, "--to", "agent/456/other")[:2] == (
        0,
        "moved to: agent/456/other\n",
    )
    assert run(server, "mailboxes", "purge", BOT)[:2] == (0, "purged: 1\n")
    assert run(server, "mailboxes", "delete", "agent/456/other")[:2] == (0, "deleted: agent/456/other\n")

    listed = lines(run(server, "dead-letters", "list", "--reason", "purged", "--json")[1])
    assert {row["id"] for row in listed} == {first, second}
    assert second in run(server, "dead-letters", "list", "--address", BOT)[1]
    assert run(server, "dead-letters", "list", "--until", "2020-01-01", "--json")[:2] == (0, "")
    (shown,) = lines(run(server, "dead-letters", "show", second)[1])
    assert shown["message"]["payload"] == "two"  # type: ignore[index]

    assert run(server, "dead-letters", "replay", second)[:2] == (0, "replayed: 1\n")
    assert run(server, "dead-letters", "replay", "--address", "agent/456/other", "--to", BOT)[1] == "replayed: 1\n"
    again = lines(run(server, "mailboxes", "show", BOT, "--json")[1])
    assert [row["id"] for row in again] == [second, first]
    assert run(server, "dead-letters", "purge", "--all")[:2] == (0, "purged: 0\n")


def test_what_the_router_refuses_ends_with_status_1_and_its_text(server: ServerProcess) -> None:
    for arguments in (
        ["mailboxes", "purge", "ui/456/nobody"],
        ["mailboxes", "show", "no address"],
        ["mailboxes", "move", "ui/456/nobody", "m-1"],
        ["dead-letters", "show", "nobody"],
        ["dead-letters", "replay", "nobody"],
        ["dead-letters", "list", "--state", "lost"],
    ):
        status, output, errors = run(server, *arguments)
        assert (status, output) == (1, ""), arguments
        assert errors.startswith("smart-router: the router refused: "), arguments


@pytest.mark.parametrize("what", [["replay"], ["purge"], ["purge", "m-1", "--all"], ["replay", "--all", "--type", "x"]])
def test_which_dead_letters_must_be_clear(what: list[str]) -> None:
    status, _, errors = command("dead-letters", *what, "--url", "http://127.0.0.1:1")
    assert (status, errors) == (2, "smart-router: say which: ids, or filters such as --reason ttl, or --all\n")


def test_times_as_one_types_them() -> None:
    assert milliseconds(None, "--since") is None
    assert milliseconds("1760000000000", "--since") == 1760000000000
    assert milliseconds("2026-01-31", "--since") == milliseconds("2026-01-31T01:00+01:00", "--since") == 1769817600000


def test_a_time_that_is_none() -> None:
    status, _, errors = command("dead-letters", "list", "--since", "yesterday")
    assert status == 2
    assert "--since: `yesterday` is no time" in errors
