"""`smart-router demo`: the live chat, to look at."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from smart_router.cli.application import app_endpoints
from smart_router.cli.checkout import demo_file
from smart_router.cli.exits import end, end_with_problems
from smart_router.cli.serve import serve_settings
from smart_router.config.attribute import make_importable
from smart_router.config.load import load_settings
from smart_router.errors import ConfigError

__all__ = ["demo"]


def demo(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one (default 8080).")] = None,
    data: Annotated[str | None, typer.Option(help="The node's folder (default ./smart-router-data).")] = None,
) -> None:
    """Serve the live chat example: open the address it prints and talk to the bot."""
    file = demo_file()
    if file is None:
        end("this installation lacks the demo's files: install smart-router again, or use a checkout's script/server")
    flags = {"--demo": True, "--host": host, "--port": port, "--data": data}
    try:
        make_importable(file)
        settings = load_settings(file, os.environ, flags, app_endpoints)
    except ConfigError as error:
        end_with_problems(error, str(file))
    serve_settings(settings, file)
