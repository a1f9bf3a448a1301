"""`smart-router serve`: one node, until it is stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from smart_router.cli.application import app_endpoints, load_application
from smart_router.cli.exits import end, end_with_problems
from smart_router.cli.running import announce, run_node
from smart_router.config.attribute import make_importable
from smart_router.config.load import load_settings
from smart_router.config.schema import Settings
from smart_router.errors import ConfigError, RouterError
from smart_router.telemetry import configure_logging

__all__ = ["serve", "serve_settings"]


def serve(  # noqa: PLR0913  # one parameter per flag is how Typer has it
    app: Annotated[
        str | None, typer.Argument(metavar="MODULE:APP", help="A SmartRouter of yours, such as my_project.app:app.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(envvar="SMART_ROUTER_CONFIG", help="A TOML file (docs/configuration.md).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one (default 8080).")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The node's folder, made if missing (default ./smart-router-data).")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="embedded://, embedded://PATH, embedded://memory, amqp://… or redis://… (docs/brokers.md)."),
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="gateway, router; may be given twice (default both: docs/installation.md).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without authentication all the same.")
    ] = False,
    log_format: Annotated[str | None, typer.Option(help="auto, json or console (default auto).")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (default info).")] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request and connection.")] = False,
    drain: Annotated[float | None, typer.Option(help="Seconds that a stop may take (default 8).")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the chat page on / and run its bot.")] = False,
) -> None:
    """Serve. SIGTERM or Ctrl-C drains and stops with status 0; a second one stops at once.

    Settings come from the file, then SMART_ROUTER_… variables, then these flags; the later wins.
    """
    flags = {
        "APP": app,
        "--host": host,
        "--port": port,
        "--data": str(data) if data is not None else None,
        "--broker": broker,
        "--role": role or None,
        "--insecure": insecure or None,
        "--log-format": log_format,
        "--log-level": log_level,
        "--access-log": access_log or None,
        "--drain": drain,
        "--demo": demo or None,
    }
    try:
        make_importable(config)
        settings = load_settings(config, os.environ, flags, app_endpoints)
    except ConfigError as error:
        end_with_problems(error, str(config) if config is not None else None)
    serve_settings(settings, config)


def serve_settings(settings: Settings, config: Path | None) -> None:
    """Runs a node with these settings; raises typer.Exit with its status."""
    from smart_router.app import Node

    configure_logging(settings.log)
    try:
        node = Node(settings, load_application(settings.app) if settings.app is not None else None)
        status = uvloop.run(run_node(node, settings.server.drain, announce))
    except ConfigError as error:
        end_with_problems(error, str(config) if config is not None else None)
    except RouterError as error:
        end(error.message)
    except OSError as error:
        end(_why(error, settings))
    raise typer.Exit(status)


def _why(error: OSError, settings: Settings) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    return f"cannot listen on {settings.server.host}:{settings.server.port}: {reason}; --port 0 takes any free port"
