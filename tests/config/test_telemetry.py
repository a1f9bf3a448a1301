"""Logs hold one line per event, whatever was sent (A7), and neither bodies nor credentials."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from smart_router.config.schema import LogSettings
from smart_router.telemetry import ACCESS_LOG, LOG_EVENTS, METRICS, configure_logging, safe

HOSTILE = [
    "line\nlevel=error event=forged",
    "\x1b[31mred\x1b[0m",
    "\r\x08\x00\x7f\x9b",
    "\u2028\u2029\u202e\ufeff",
    "\ud800",
    "x" * 1_000_000,
    "{\"event\": \"forged\"}",
]  # fmt: skip


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers, root.level, logging.raiseExceptions
    yield
    root.handlers, logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_values_stay_in_one_short_line(hostile: str, form: str) -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format=form, level="info"), stream)  # type: ignore[arg-type]
    structlog.get_logger("test").info("told", actor=hostile, ids={hostile: [hostile]})
    logging.getLogger("uvicorn.error").warning("Invalid: %s", hostile)
    output = stream.getvalue()
    assert output.count("\n") == 2
    assert len(output) < 4096
    plain = output.replace("\n", "")
    assert plain.isprintable()


@pytest.mark.usefixtures("logging_restored")
def test_a_line_has_time_level_event_and_values() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), stream)
    structlog.get_logger("test").warning("told", count=3, ratio=0.5, flag=True, data=b"abc", nothing=None)
    [line] = lines_of(stream)
    assert list(line)[:3] == ["at", "level", "event"]
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "told",
        "logger": "test",
        "count": 3,
        "ratio": 0.5,
        "flag": True,
        "data": "<3 bytes>",
        "nothing": None,
    }


@pytest.mark.usefixtures("logging_restored")
def test_secrets_and_bodies_are_never_printed() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level="debug"), stream)
    log = structlog.get_logger("test")
    secret = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    names = ["token", "access_token", "secret", "Password", "Authorization", "payload", "body", "Set-Cookie"]
    for name in names:
        log.info("told", **{name: "hunter2"}, headers={name: "hunter2"})
    log.info("told", header=f"Bearer {secret}", path=f"/x?token={secret}&a=1", text=f"got {secret}")
    logging.getLogger("uvicorn.error").info("GET /socket.io/?EIO=4&token=hunter2 from %s", secret)
    output = stream.getvalue()
    assert "hunter2" not in output
    assert "eyJ" not in output
    assert "&a=1" in output
    assert lines_of(stream)[0]["token"] == "[hidden]"


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_an_exception_shows_type_and_frames_and_its_text_at_debug_only(level: str, shown: bool) -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level=level), stream)  # type: ignore[arg-type]
    try:
        int("what was sent\nwas this")
    except ValueError:
        structlog.get_logger("test").exception("route_raised")
        logging.getLogger("asyncio").exception("Task failed")
    ours, theirs = lines_of(stream)
    assert ours["exception"].startswith("ValueError")
    assert theirs["exception"].startswith("ValueError")
    assert "test_telemetry.py" in ours["frames"][-1]
    assert ("what was sent" in stream.getvalue()) is shown


@pytest.mark.usefixtures("logging_restored")
def test_the_level_holds_for_all() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", level="error"), stream)
    structlog.get_logger("test").warning("told")
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").error("GET /?token=x")
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("access", [True, False])
def test_the_access_log_is_there_when_asked_for(access: bool) -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(format="json", access=access), stream)
    structlog.get_logger(ACCESS_LOG).info("http_request", path="/healthz")
    assert len(lines_of(stream)) == access


@given(st.recursive(st.text() | st.integers() | st.binary(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_value_becomes_printable(value: object) -> None:
    assert json.dumps(safe(value), ensure_ascii=False).isprintable()


def test_a_log_that_cannot_be_written_disturbs_nothing() -> None:
    program = (
        "import sys, structlog; from smart_router.config.schema import LogSettings;"
        "from smart_router.telemetry import configure_logging;"
        "configure_logging(LogSettings()); sys.stderr.close();"
        "structlog.get_logger('x').error('told'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"


def test_every_logged_event_stands_in_telemetry() -> None:
    source = Path(__file__).parents[2] / "src" / "smart_router"
    call = re.compile(r"\b_?log\.(?:debug|info|warning|error|exception|critical)\(\s*\"([a-z_]+)\"")
    logged = {name for file in source.rglob("*.py") for name in call.findall(file.read_text())}
    assert logged <= set(LOG_EVENTS), "describe them in telemetry.LOG_EVENTS"


def test_metric_names_follow_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"smart_router_[a-z_]+", name)
        assert metric.kind in {"counter", "gauge", "histogram"}
        assert (metric.kind == "counter") is name.endswith("_total")
