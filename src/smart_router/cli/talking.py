"""What `send` and `listen` share: the address of the plain protocol, and how a client's end becomes a text."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import uvloop

from smart_router.cli.exits import USAGE, end
from smart_router.client import Closed, ProtocolError, Refused
from smart_router.message import is_address

__all__ = ["check_actor", "parse_ids", "parse_json", "run_client", "websocket_url"]


def websocket_url(url: str) -> str:
    """The plain protocol's: `http://host:port` → `ws://host:port/ws`; a path that is given stays."""
    parts = urlsplit(url)
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        end(f"`{url}` is no address of a router: write it as http://127.0.0.1:8080", USAGE)
    path = parts.path if parts.path.strip("/") else "/ws"
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, parts.query, ""))


def parse_ids(given: list[str]) -> dict[str, str | list[str]]:
    """`name=address`; a name given twice becomes a list."""
    ids: dict[str, str | list[str]] = {}
    for item in given:
        name, equals, address = item.partition("=")
        if not name or not equals or not address:
            end(f"`{item}` is no id: write it as agent=agent/456/bot", USAGE)
        earlier = ids.get(name)
        if earlier is None:
            ids[name] = address
        else:
            ids[name] = [*(earlier if isinstance(earlier, list) else [earlier]), address]
    return ids


def parse_json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        end(f"the {what} is not JSON: {error}; a text needs its quotes: '\"hello\"'", USAGE)


def check_actor(actor: str) -> None:
    if not is_address(actor) or "/" not in actor:
        end(f"`{actor}` is no actor: write endpoint/own or endpoint/sub/own, as in ui/456/alice", USAGE)


def run_client(work: Coroutine[Any, Any, None], url: str) -> bool:
    """Runs it on uvloop; False: SIGINT or SIGTERM ended it. Every way to fail ends the program with a text."""
    try:
        return uvloop.run(_interruptible(work))
    except Refused as error:
        end(f"{error.message} ({error.code})")
    except (TimeoutError, ProtocolError, Closed, OSError) as error:
        end(f"{url}: {str(error) or 'no router answers in time'}")
    except ValueError as error:
        end(str(error), USAGE)


async def _interruptible(work: Coroutine[Any, Any, None]) -> bool:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    if task.cancelled():
        return False
    task.result()
    return True
