"""A node's life: ready, signals, drain, failure. The node is a small one that only remembers what it was told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from smart_router.cli.running import announce, run_node
from tests.processes import LineProcess


class SmallNode:
    addresses: Sequence[tuple[str, int]] = (("127.0.0.1", 4711),)

    def __init__(self) -> None:
        self.failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.stopped: list[float] = []

    async def start(self) -> None: ...

    async def stop(self, drain: float) -> None:
        self.stopped.append(drain)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_with_0(number: signal.Signals) -> None:
    node = SmallNode()
    ready: list[Sequence[tuple[str, int]]] = []

    def told(addresses: Sequence[tuple[str, int]]) -> None:
        ready.append(addresses)
        os.kill(os.getpid(), number)

    assert await run_node(node, 7.5, told) == 0
    assert ready == [(("127.0.0.1", 4711),)]
    assert node.stopped == [7.5]


async def test_a_node_that_cannot_go_on_ends_with_1() -> None:
    node = SmallNode()
    status = await run_node(node, 7.5, lambda _: node.failed.set_result("the journal's medium failed"))
    assert status == 1
    assert node.stopped == [0.0]


async def test_a_start_that_fails_is_the_callers() -> None:
    class Broken(SmallNode):
        async def start(self) -> None:
            raise OSError(98, "Address already in use")

    with pytest.raises(OSError, match="in use"):
        await run_node(Broken(), 1.0, lambda _: None)


def test_ready_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce([("::1", 8080), ("127.0.0.1", 8080)])
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert json.loads(output) == {"event": "ready", "address": "::1", "port": 8080, "pid": os.getpid()}


STUBBORN = """
import asyncio, sys
from smart_router.cli.running import announce, run_node
from smart_router.config.schema import LogSettings
from smart_router.telemetry import configure_logging
class Node:
    addresses = [("127.0.0.1", 1)]
    def __init__(self): self.failed = asyncio.get_running_loop().create_future()
    async def start(self): pass
    async def stop(self, drain):
        print("stopping", flush=True)
        await asyncio.Event().wait()
configure_logging(LogSettings())
async def main(): return await run_node(Node(), 60.0, announce)
sys.exit(asyncio.run(main()))
"""


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = LineProcess([sys.executable, "-c", STUBBORN], tmp_path, "stubborn", {})
    try:
        assert process.read_json()["event"] == "ready"
        process.signal(signal.SIGTERM)
        assert process.read_line().startswith("stopping")
        process.signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    finally:
        process.stop()
