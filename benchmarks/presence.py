"""How soon a watcher at one node is told of a change at another: `python -m benchmarks.presence redis://… [changes]`.

Two nodes in this process, on the broker of that URL; an actor at the second says another status every 10 ms, a watcher
at the first notes when it has the message. Both clients share the process's one core with both nodes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import cycle, islice

import structlog

from smart_router import Node, SmartRouter, load_settings
from smart_router.client import Client, connect

WATCHER, ACTOR = "ui/456/watcher", "ui/456/actor"
STATUSES = (("away", "away"), ("idle", "idle"), ("active", "online"))


async def node(stack: AsyncExitStack, url: str) -> str:
    """Its WebSocket's URL."""
    app = SmartRouter()
    app.endpoint("ui/{id}", sub_endpoints=["456"])
    data = stack.enter_context(tempfile.TemporaryDirectory())
    made = Node(load_settings(flags={"--port": 0, "--broker": url, "--data": data}), app)
    await made.start()
    stack.push_async_callback(made.stop)
    return f"ws://127.0.0.1:{made.addresses[0][1]}/ws"


async def change(actor: Client, watcher: Client, status: str, presence: str) -> float:
    """Seconds until the watcher has it."""
    began = time.perf_counter()
    await actor.set_status(status)
    while (await watcher.receive()).payload["presence"] != presence:
        pass
    return time.perf_counter() - began


async def measure(url: str, changes: int) -> list[float]:
    async with AsyncExitStack() as stack:
        here, there = await node(stack, url), await node(stack, url)
        watcher = await stack.enter_async_context(connect(here, actor=WATCHER))
        actor = await stack.enter_async_context(connect(there, actor=ACTOR))
        await watcher.watch(ACTOR)
        taken = []
        for status, presence in islice(cycle(STATUSES), changes):
            taken.append(await change(actor, watcher, status, presence))
            await asyncio.sleep(0.01)
        return taken


def main() -> None:
    url, changes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    taken = sorted(1000 * seconds for seconds in asyncio.run(measure(url, changes)))
    p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    sys.stdout.write(f"{changes} changes: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {taken[-1]:.1f} ms\n")


if __name__ == "__main__":
    main()
