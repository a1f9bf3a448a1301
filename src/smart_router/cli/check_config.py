"""`smart-router check-config`: every mistake of a configuration, before anything runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from smart_router.cli.application import app_endpoints
from smart_router.cli.exits import end_with_problems
from smart_router.config.attribute import make_importable
from smart_router.config.load import load_settings
from smart_router.config.schema import Settings
from smart_router.errors import ConfigError

__all__ = ["check_config"]


def check_config(
    file: Annotated[Path, typer.Argument(help="The TOML file.")],
    environment: Annotated[
        bool,
        typer.Option("--environment/--no-environment", help="Look at SMART_ROUTER_… variables too, as serve does."),
    ] = True,
) -> None:
    """Say every mistake with its line, the reason, and the nearest valid name. Status 0: none; 2: there are some.

    An application that the file names is imported, as serve does, since routes may name its endpoints.
    """
    try:
        make_importable(file)
        settings = load_settings(file, os.environ if environment else {}, app_endpoints=app_endpoints)
    except ConfigError as error:
        end_with_problems(error, str(file))
    typer.echo(f"{file}: no mistakes: {_summary(settings)}")


def _summary(settings: Settings) -> str:
    parts = [
        (len(settings.endpoints), "endpoint", "endpoints"),
        (len(settings.routes), "route", "routes"),
        (len(settings.server.gateways), "gateway", "gateways"),
    ]
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in parts)
