"""Exit statuses, and how a command ends with a text that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

import typer

from smart_router.errors import ConfigError

__all__ = ["FAILED", "USAGE", "end", "end_with_problems"]

FAILED: Final = 1
"""It was tried and did not work."""

USAGE: Final = 2
"""Wrong arguments or settings: nothing was tried."""


def end(text: str, status: int = FAILED) -> NoReturn:
    """Ends the program; the text goes to standard error."""
    typer.echo(f"smart-router: {text}", err=True)
    raise typer.Exit(status)


def end_with_problems(error: ConfigError, file: str | None = None) -> NoReturn:
    """Every mistake on a line of its own."""
    typer.echo(_heading(error.problems, file), err=True)
    for problem in error.problems:
        typer.echo(f"  {problem}", err=True)
    raise typer.Exit(USAGE)


def _heading(problems: Sequence[str], file: str | None) -> str:
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return f"smart-router: {count} in the settings" + (f" ({file})" if file else "")
