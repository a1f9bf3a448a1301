"""`smart-router listen`: what an actor receives, one JSON line a message."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Annotated, Any

import typer

from smart_router.cli.options import DEFAULT_URL, Actor, Token, Url
from smart_router.cli.talking import check_actor, run_client, websocket_url
from smart_router.client import Message, connect

__all__ = ["listen"]


def listen(
    *,
    actor: Actor,
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0: never.")] = 0,
    timeout: Annotated[float, typer.Option(min=0, help="End with status 1 after so many seconds; 0: never.")] = 0,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Print each message of the actor's mailboxes as a JSON line, and confirm it when the line is written.

    Reconnects by itself. Ctrl-C ends it with status 0.
    """
    check_actor(actor)
    run_client(_listen(websocket_url(url), actor, token, count, timeout or None), url)


async def _listen(url: str, actor: str, token: str | None, count: int, timeout: float | None) -> None:
    received = 0
    try:
        async with asyncio.timeout(timeout), connect(url, actor=actor, token=token) as client:
            async for message in client:
                sys.stdout.write(_line(message) + "\n")
                sys.stdout.flush()
                message.ack()
                received += 1
                if received == count:
                    return
    except TimeoutError:
        raise TimeoutError(f"{received} messages came in {timeout:g} s") from None


def _line(message: Message) -> str:
    shown: dict[str, Any] = {"type": "", **json.loads(message.raw)}
    shown["type"] = message.type
    if message.attachments:
        shown["attachments"] = [base64.b64encode(part).decode() for part in message.attachments]
    line = json.dumps(shown, ensure_ascii=False)
    # What a sender wrote must not steer the terminal.
    return line if line.isprintable() else json.dumps(shown)
