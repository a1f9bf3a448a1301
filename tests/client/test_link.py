"""One connection of the client: how it ends."""

from __future__ import annotations

import asyncio

import pytest

from smart_router.client.errors import Cut
from smart_router.client.inbox import Inbox
from smart_router.client.link import Link
from smart_router.client.outbox import Outbox
from smart_router.client.settings import ClientSettings


class Dying:
    """A transport that breaks when told to."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()

    async def send(self, frame: bytes) -> None:
        return

    async def receive(self) -> bytes:
        await self.broken.wait()
        raise Cut(1006)

    async def close(self) -> None:
        return


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_ends_a_connection_just_when_it_breaks_has_ended_it(turns: int) -> None:
    settings, wake, transport = ClientSettings(), asyncio.Event(), Dying()
    link = Link(transport, Inbox(settings, wake), Outbox(settings, wake), wake, lambda _error: None)
    running = asyncio.create_task(link.run())
    await asyncio.sleep(0)
    transport.broken.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    was_running = running.cancel()
    await asyncio.wait({running})
    assert running.cancelled() is was_running
    if not was_running:
        assert isinstance(running.exception(), Cut)
