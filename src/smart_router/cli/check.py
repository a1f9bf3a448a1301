"""`smart-router check`: a plugin for Nagios and its kin: one line, status 0 to 3, performance data behind `|`."""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple

import typer
import typer.core

from smart_router.cli.options import DEFAULT_URL, Timeout, Token, Url
from smart_router.cli.requests import NoAnswer, ask
from smart_router.telemetry import safe

__all__ = ["CheckCommand", "Result", "check", "judge"]

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


class Result(NamedTuple):
    status: int
    text: str
    errors: int = 0
    warnings: int = 0

    def line(self, seconds: float) -> str:
        text = str(safe(self.text)).replace("|", "/")
        data = f"errors={self.errors};;0;0 warnings={self.warnings};0;;0 time={seconds:.3f}s;;;0"
        return f"SMART_ROUTER {_NAMES[self.status]} - {text} | {data}"


class CheckCommand(typer.core.TyperCommand):
    """Wrong arguments are UNKNOWN to a monitoring system, not CRITICAL, which status 2 would say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter.__mro__[1] as error:  # type: ignore[misc]  # Typer does not export UsageError
            error.exit_code = UNKNOWN
            raise


def check(
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
    keep: Annotated[bool, typer.Option("--readiness-only", help="Do not read and clear the entries.")] = False,
) -> None:
    """Ask a router for its warnings and errors since the last check, which clears them, and whether it is ready.

    Status 0: none; 1: warnings; 2: errors, not ready, or no answer; 3: it cannot be told.
    """
    started = time.monotonic()
    result = _result(url, token, timeout, entries=not keep)
    typer.echo(result.line(time.monotonic() - started))
    raise typer.Exit(result.status)


def _result(url: str, token: str | None, timeout: float, *, entries: bool) -> Result:
    try:
        ready = ask("GET", url, "/readyz", token=None, timeout=timeout)
        checked = ask("POST", url, "/check", token=token, timeout=timeout) if entries else None
    except NoAnswer as error:
        return Result(CRITICAL, str(error))
    except ValueError as error:
        return Result(UNKNOWN, str(error))
    if checked is not None and checked.status != 200:
        return Result(UNKNOWN, f"the router refused the check: {checked.error} ({checked.status})")
    result = judge(checked.value) if checked is not None else Result(OK, "ready")
    if ready.status != 200 and result.status in {OK, WARNING}:
        return result._replace(status=CRITICAL, text=f"not ready: {ready.error}")
    return result


def judge(answer: Any) -> Result:
    """The entries of POST /check, worst first."""
    try:
        entries = [(str(entry["level"]), str(entry["message"])) for entry in answer["entries"]]
    except (KeyError, TypeError):
        return Result(UNKNOWN, "the answer is none of a Smart Router's")
    errors = [message for level, message in entries if level == "error"]
    warnings = [message for level, message in entries if level == "warning"]
    if not errors and not warnings:
        return Result(OK, "no warnings or errors since the last check")
    status = CRITICAL if errors else WARNING
    counted = f"{len(errors)} errors, {len(warnings)} warnings; the latest: {(errors or warnings)[-1]}"
    return Result(status, counted, len(errors), len(warnings))
