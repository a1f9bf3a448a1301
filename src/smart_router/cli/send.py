"""`smart-router send`: one message, as an actor."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any

import msgspec
import typer

from smart_router.cli.exits import end
from smart_router.cli.options import DEFAULT_URL, Actor, Timeout, Token, Url
from smart_router.cli.talking import check_actor, parse_ids, parse_json, run_client, websocket_url
from smart_router.client import connect

__all__ = ["send"]


def send(  # noqa: PLR0913  # one parameter per flag is how Typer has it
    type: Annotated[str, typer.Argument(help="The message's type, such as talk.")],
    payload: Annotated[str | None, typer.Argument(help="JSON; - reads it from standard input.")] = None,
    *,
    actor: Actor,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="name=address, such as agent=agent/456/bot; may be repeated.")
    ] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON: what routing looks at.")] = None,
    options: Annotated[str | None, typer.Option(help='JSON, such as {"ttl": 60}.')] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Send a message and wait until it is safe in every mailbox it goes to; prints {"id", "status"}."""
    text = sys.stdin.read() if payload == "-" else payload
    message = {
        "ids": parse_ids(ids or []),
        "payload": msgspec.UNSET if text is None else parse_json(text, "payload"),
        "metadata": msgspec.UNSET if metadata is None else parse_json(metadata, "metadata"),
        "options": None if options is None else parse_json(options, "options"),
    }
    check_actor(actor)
    if not run_client(_send(websocket_url(url), actor, token, type, message, timeout), url):
        end("interrupted: whether the message was taken is unknown")


async def _send(url: str, actor: str, token: str | None, type: str, message: dict[str, Any], timeout: float) -> None:
    async with asyncio.timeout(timeout), connect(url, actor=actor, token=token) as client:
        accepted = await client.send(type, **message)
    typer.echo(json.dumps({"id": accepted.id, "status": accepted.status}))
