"""`smart-router nodes`: the nodes of an installation, asked of any one of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from smart_router.cli.exits import USAGE, end
from smart_router.cli.options import DEFAULT_URL, Timeout, Token, Url
from smart_router.cli.requests import NoAnswer, ask

__all__ = ["nodes"]


def nodes(
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="The router's answer as it is.")] = False,
) -> None:
    """List the nodes: roles, version, sessions, lag, and what is wrong with them. Needs the scope monitor or admin."""
    try:
        answer = ask("GET", url, "/nodes", token=token, timeout=timeout)
    except NoAnswer as error:
        end(str(error))
    except ValueError as error:
        end(str(error), USAGE)
    if answer.status in {401, 403}:
        end(f"not allowed: {answer.error}; --token or SMART_ROUTER_TOKEN must have the scope monitor or admin")
    if answer.status != 200 or not isinstance(answer.value, dict):
        end(f"the router refused: {answer.error} ({answer.status})")
    if as_json:
        typer.echo(json.dumps(answer.value))
    else:
        Console().print(_table(answer.value))


def _table(answer: dict[str, Any]) -> Table:
    table = Table("node", "roles", "version", "address", "since", "sessions", "lag", "state", box=None)
    for column in (5, 6):
        table.columns[column].justify = "right"
    for node in answer["nodes"]:
        since = datetime.fromtimestamp(node["started_at"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        cells = (
            node["id"] + (" *" if node["id"] == answer["self"] else ""),
            ", ".join(node["roles"]),
            node["version"],
            node["address"] or "–",
            since,
            str(node["sessions"]),
            f"{node['lag'] * 1000:.0f} ms",
            _state(node),
        )
        table.add_row(*map(Text, cells))  # what a node says of itself is no markup
    return table


def _state(node: dict[str, Any]) -> str:
    found = [node["trouble"]] if node["trouble"] else []
    if node["draining"]:
        found.append("going down")
    if not node["same_configuration"]:
        found.append("other configuration")
    return "; ".join(found) or "ok"
