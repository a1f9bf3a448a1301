"""`smart-router bench`: the benchmarks, where their files are."""

from __future__ import annotations

import os

import typer

from smart_router.cli.checkout import repository
from smart_router.cli.exits import end

__all__ = ["bench"]


def bench(context: typer.Context) -> None:
    """Measure Smart Router beside its peers; arguments go on to script/bench of the checkout (--help: which)."""
    root = repository()
    script = root / "script" / "bench" if root is not None else None
    if script is None or not script.is_file():
        end("the benchmarks are not part of the installed package: run script/bench in a checkout of the repository")
    os.execv(script, [str(script), *context.args])  # noqa: S606  # our own script, no shell
