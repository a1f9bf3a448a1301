"""`serve`, `send`, `listen`, `check` and `revoke` together, as installed programs."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import PROGRAM, LineProcess, ServerProcess, serve

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "smart-router.toml").write_text(CONFIG)
    arguments = ["--config", str(tmp_path / "smart-router.toml"), "--data", str(tmp_path / "data"), "--port", "0"]
    process = serve(arguments, tmp_path, "server", {})
    yield process
    assert process.stop() == 0
    for line in process.log().splitlines():
        assert json.loads(line)["level"] == "info"


def run(server: ServerProcess, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *arguments, "--url", server.url]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_what_one_sends_the_other_prints(server: ServerProcess, tmp_path: Path) -> None:
    common = ["--actor", "ui/456/u1", "--id", "agent=agent/456/bot"]
    sent = run(server, "send", "talk", '{"text": "\\u001b[31m"}', *common)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert run(server, "send", "talk", "-", *common, stdin='"from stdin"').returncode == 0

    listener = LineProcess(
        [str(PROGRAM), "listen", "--actor", "agent/456/bot", "--url", server.url], tmp_path, "listener", {}
    )
    first, second = listener.read_line(), listener.read_json()
    assert first.isprintable()
    message = json.loads(first)
    assert (message["id"], message["type"], message["from"]) == (json.loads(sent.stdout)["id"], "talk", "ui/456/u1")
    assert message["payload"] == {"text": "\x1b[31m"}
    assert second["payload"] == "from stdin"
    listener.signal(signal.SIGINT)
    assert listener.wait() == 0
    assert listener.stop() == 0
    assert listener.log() == ""


def test_refusals_are_told_with_status_1(server: ServerProcess) -> None:
    refused = run(server, "send", "nonsense", "1", "--actor", "ui/456/u1")
    assert refused.returncode == 1
    assert refused.stderr == "smart-router: There is no route for the type 'nonsense' on endpoint 'ui'. (no_route)\n"
    assert run(server, "send", "talk", "1", "--actor", "ui/999/u1").stderr.endswith(" (unknown_address)\n")


def test_a_router_in_order_is_ok_and_revokes(server: ServerProcess) -> None:
    checked = run(server, "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith("SMART_ROUTER OK - no warnings or errors since the last check |")
    revoked = run(server, "revoke", "--subject", "alice")
    assert (revoked.returncode, revoked.stdout) == (0, "revoked: subject alice\n")


def test_listen_ends_after_its_time(server: ServerProcess) -> None:
    late = run(server, "listen", "--actor", "agent/456/bot", "--timeout", "0.1")
    assert late.returncode == 1
    assert late.stderr == f"smart-router: {server.url}: 0 messages came in 0.1 s\n"


def test_in_memory_means_nothing_on_disk(tmp_path: Path) -> None:
    settings = 'store = "sqlite:///:memory:"\n[broker]\nurl = "embedded://memory"\n'
    (tmp_path / "smart-router.toml").write_text(settings + CONFIG)
    arguments = ["--config", str(tmp_path / "smart-router.toml"), "--data", str(tmp_path / "data"), "--port", "0"]
    process = serve(arguments, tmp_path / "output", "server", {})
    assert run(process, "check").returncode == 0
    assert process.stop() == 0
    assert list(tmp_path.glob("data/*")) == []
