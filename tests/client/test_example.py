"""The example's bot, in a process of its own, against a scripted router."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from smart_router.protocols import plain
from tests.client.peer import Peer

ECHO = Path(__file__).parents[2] / "examples" / "python_client" / "echo.py"


async def test_the_bot_answers_and_answers_a_repeat_under_the_same_key(peer: Peer) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ECHO), peer.url, "agent/456/bot", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        first = await peer.next()
        assert (await first.greet()).actor == "agent/456/bot"
        await first.deliver(1, "m1", payload={"text": "hi"})
        assert (await first.frame(plain.Ack)).upto == 1
        lost = await first.frame(plain.Send)
        first.cut()
        second = await peer.next()
        await second.greet()
        repeated = await second.accept()
    finally:
        process.terminate()
        await process.wait()
    assert bytes(repeated.message) == bytes(lost.message)
    assert json.loads(bytes(lost.message)) == {
        "ids": {"ui": "ui/456/u1", "agent": "agent/456/bot"},
        "payload": {"text": "hi"},
        "options": {"id": "re-m1"},
    }
