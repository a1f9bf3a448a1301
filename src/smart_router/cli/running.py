"""Runs a node until it is told to stop or cannot go on.

start ─► ready line ─► SIGTERM / SIGINT ─► drain ─► status 0
                 │              └─ again ─► at once, 128 + signal
                 └─ node.failed (the journal's medium) ─► status 1
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from rich.console import Console

from smart_router.cli.exits import FAILED

__all__ = ["Announce", "Runnable", "announce", "run_node"]

_log = structlog.get_logger("smart_router.node")


class Runnable(Protocol):
    """What this needs of `smart_router.app.Node`."""

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """After `start`."""

    @property
    def failed(self) -> asyncio.Future[Any]:
        """Done, with the reason, when the node cannot go on."""

    async def start(self) -> None: ...

    async def stop(self, drain: float) -> None:
        """Ends within about `drain` seconds; what was accepted is safe."""


Announce = Callable[[Sequence[tuple[str, int]]], None]


def announce(addresses: Sequence[tuple[str, int]]) -> None:
    """Says on standard output that the node is ready: one JSON line for programs, a sentence on a terminal."""
    host, port = addresses[0]
    if sys.stdout.isatty():
        shown = f"[{host}]" if ":" in host else host
        Console().print(f"Smart Router is ready on [bold]http://{shown}:{port}[/bold] (Ctrl-C stops it)")
        return
    ready = {"event": "ready", "address": host, "port": port, "pid": os.getpid()}
    try:
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever started us does not read: no reason not to serve.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def run_node(node: Runnable, drain: float, announce: Announce) -> int:
    """The exit status. Raises what `start` raises."""
    stop = asyncio.Event()
    _on_signals(stop)
    await node.start()
    _log.info("node_ready", addresses=[f"{host}:{port}" for host, port in node.addresses])
    announce(node.addresses)
    stopped = asyncio.ensure_future(stop.wait())
    waiting: set[asyncio.Future[Any]] = {stopped, asyncio.ensure_future(node.failed)}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if node.failed.done():
        stopped.cancel()
        _log.error("node_failed", reason=str(node.failed.result()))
        await node.stop(0.0)
        return FAILED
    await node.stop(drain)
    _log.info("node_stopped")
    return 0


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        if stop.is_set():
            # Somebody is in a hurry: what was accepted is on disk, the rest is not waited for.
            sys.stderr.flush()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
