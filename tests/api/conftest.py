from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smart_router.app import Node
from tests.api.nodes import AUTH, running, settings_of

__all__ = ["guarded", "node"]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Without authentication."""
    async with running(settings_of(tmp_path / "data")) as node:
        yield node


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Node]:
    """With the static tokens of `tests.api.nodes`."""
    async with running(settings_of(tmp_path / "data", AUTH)) as node:
        yield node
