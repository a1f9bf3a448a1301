"""`smart-router version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed

import typer

__all__ = ["version"]


def version() -> None:
    """Say which Smart Router and which Python this is."""
    typer.echo(f"smart-router {installed('smart-router')} (Python {platform.python_version()})")
