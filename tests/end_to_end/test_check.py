"""What a monitoring system sees: POST /check, and the Nagios plugin `smart-router check`, against a running server."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.end_to_end.actors import Actors
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import PROGRAM

__all__: list[str] = []


def post_check(url: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(url + "/check", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        entries = json.load(answer)["entries"]
    assert all(set(entry) == {"level", "message", "at"} for entry in entries)
    return list(entries)


def plugin(url: str) -> tuple[int, str]:
    done = subprocess.run([PROGRAM, "check", "--url", url], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.count("\n") == 1, "one line"
    return done.returncode, done.stdout


def register(actors: Actors, url: str, name: str) -> None:
    client = actors.connect(url, "admin", identify=False, namespace="/")
    client.expect("connect")
    for _ in range(2):
        client.emit("registerNewEndpointId", {"name": name, "id": "again"})
        client.expect("event")
    client.close()


def test_a_check_returns_and_clears(actors: Actors, url: str) -> None:
    post_check(url)
    assert [entry["level"] for entry in post_check(url)] == ["ok"]

    register(actors, url, "agent")
    (warning,) = post_check(url)
    assert (warning["level"], warning["message"]) == ("warning", "Endpoint [/agent/again] already exists. Aborted.")
    assert [entry["level"] for entry in post_check(url)] == ["ok"]

    register(actors, url, "toto")
    assert [entry["level"] for entry in post_check(url)] == ["error", "error"]


@pytest.mark.slow
def test_the_nagios_plugin(actors: Actors, url: str) -> None:
    post_check(url)
    status, line = plugin(url)
    assert status == 0
    assert line.startswith("SMART_ROUTER OK")
    assert "|" in line, "performance data"
    register(actors, url, "ui")
    register(actors, url, "ui")
    assert plugin(url)[0] == 1
    register(actors, url, "toto")
    assert plugin(url)[0] == 2
    assert plugin(url)[0] == 0


def test_the_plugin_without_a_router(free_port: int) -> None:
    assert plugin(f"http://127.0.0.1:{free_port}")[0] == 2


def test_two_processes_on_one_folder(start_server: StartServer, data_dir: Path) -> None:
    """The second is refused in words; the first does not notice."""
    first = start_server("--config", str(EXAMPLE))
    second = subprocess.run(
        [PROGRAM, "serve", "--config", str(EXAMPLE), "--port", "0", "--data", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert second.returncode not in (0, None)
    assert second.stdout == ""
    assert "Traceback" not in second.stderr
    assert str(data_dir) in second.stderr
    assert [entry["level"] for entry in post_check(first.url)] == ["ok"]
