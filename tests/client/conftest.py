from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.peer import Pauses, Peer, running


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with running() as peer:
        yield peer


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()
