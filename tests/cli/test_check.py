"""The Nagios plugin and `revoke`, against a router's HTTP answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from smart_router.cli.check import judge
from smart_router.cli.main import program

LINE = re.compile(
    r"SMART_ROUTER (?:OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+ "
    r"\| errors=\d+;;0;0 warnings=\d+;0;;0 time=\d+\.\d{3}s;;;0\n"
)


class Router(ThreadingHTTPServer):
    """Answers (method, path) with (status, JSON) and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {("GET", "/readyz"): (200, {"status": "ready"})}
        self.asked: list[tuple[str, str, str | None, Any]] = []
        super().__init__(("127.0.0.1", 0), _Asked)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Asked(BaseHTTPRequestHandler):
    server: Router

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body) if body else None
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization"), asked))
        status, value = self.server.answers.get((self.command, self.path), (404, {"code": "x", "message": "Not found"}))
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_POST = do_GET  # noqa: N815  # http.server's name

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the test's output is the command's."""


@pytest.fixture
def router() -> Iterator[Router]:
    server = Router()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(program(), list(arguments))
    return result.exit_code, result.stdout, result.stderr


def entry(level: str, message: str) -> dict[str, Any]:
    return {"level": level, "message": message, "at": 1}


@pytest.mark.parametrize(
    ("entries", "status", "text"),
    [
        ([entry("ok", "fine")], 0, "OK - no warnings or errors since the last check | errors=0;"),
        (
            [entry("warning", "a"), entry("warning", "b")],
            1,
            "WARNING - 0 errors, 2 warnings; the latest: b | errors=0;",
        ),
        ([entry("warning", "a"), entry("error", "b")], 2, "CRITICAL - 1 errors, 1 warnings; the latest: b | errors=1;"),
        ([entry("error", "a|b\nc")], 2, "CRITICAL - 1 errors, 0 warnings; the latest: a/b\\x0ac | errors=1;"),
        ("nonsense", 3, "UNKNOWN - the answer is none of a Smart Router's | errors=0;"),
    ],
)
def test_the_worst_entry_decides(router: Router, entries: Any, status: int, text: str) -> None:
    router.answers["POST", "/check"] = (200, {"entries": entries})
    code, output, errors = run("check", "--url", router.url)
    assert (code, errors) == (status, "")
    assert output.startswith(f"SMART_ROUTER {text}")
    assert LINE.fullmatch(output)


def test_not_ready_is_critical(router: Router) -> None:
    router.answers["POST", "/check"] = (200, {"entries": [entry("ok", "fine")]})
    router.answers["GET", "/readyz"] = (503, {"message": "storage_full: no room on /data"})
    code, output, _ = run("check", "--url", router.url)
    assert code == 2
    assert output.startswith("SMART_ROUTER CRITICAL - not ready: storage_full: no room on /data |")


def test_readiness_only_leaves_the_entries(router: Router) -> None:
    assert run("check", "--url", router.url, "--readiness-only")[0] == 0
    assert [path for _, path, _, _ in router.asked] == ["/readyz"]


def test_a_refused_check_and_wrong_arguments_are_unknown(router: Router) -> None:
    router.answers["POST", "/check"] = (401, {"code": "unauthorized", "message": "No token."})
    code, output, _ = run("check", "--url", router.url)
    assert code == 3
    assert "UNKNOWN - the router refused the check: No token. (401) |" in output
    assert run("check", "--nonsense")[0] == 3
    assert run("check", "--url", "nonsense")[0] == 3


def test_no_router_is_critical() -> None:
    code, output, _ = run("check", "--url", "http://127.0.0.1:1")
    assert code == 2
    assert LINE.fullmatch(output)
    assert "no router answers at http://127.0.0.1:1: Connection refused" in output


def test_the_token_goes_along(router: Router) -> None:
    router.answers["POST", "/check"] = (200, {"entries": [entry("ok", "fine")]})
    run("check", "--url", router.url, "--token", "t0ken")
    assert router.asked[-1] == ("POST", "/check", "Bearer t0ken", None)


@pytest.mark.parametrize("answer", [None, 1, "x", [], {}, {"entries": 1}, {"entries": [1]}, {"entries": [{}]}])
def test_any_answer_is_judged(answer: object) -> None:
    assert judge(answer).status == 3


def test_revoke_by_subject_and_by_token_id(router: Router) -> None:
    router.answers["POST", "/revocations"] = (201, {})
    assert run("revoke", "--subject", "alice", "--url", router.url) == (0, "revoked: subject alice\n", "")
    assert run("revoke", "--jti", "t1", "--url", router.url, "--token", "s") == (0, "revoked: token t1\n", "")
    assert router.asked == [
        ("POST", "/revocations", None, {"subject": "alice"}),
        ("POST", "/revocations", "Bearer s", {"jti": "t1"}),
    ]


def test_revoke_without_the_scope(router: Router) -> None:
    router.answers["POST", "/revocations"] = (403, {"error": {"code": "forbidden", "message": "Not an admin."}})
    code, output, errors = run("revoke", "--subject", "alice", "--url", router.url)
    assert (code, output) == (1, "")
    assert errors == (
        "smart-router: not allowed: Not an admin.; --token or SMART_ROUTER_TOKEN must have the scope admin\n"
    )
