"""The bus inside one process against the contract of all buses."""

import pytest

from smart_router.bus.base import Bus
from smart_router.bus.local import LocalBus
from tests.contracts.bus import BusContract, Place
from tests.fakes.exchange import FaultyExchange


class LocalPlace:
    def __init__(self) -> None:
        self.exchanges: dict[str, FaultyExchange] = {}

    def make(self, node: str, installation: str = "") -> Bus:
        return LocalBus(node, self.exchanges.setdefault(installation, FaultyExchange()))

    async def cut(self, bus: Bus) -> None:
        assert isinstance(bus, LocalBus)
        self.exchanges[""].part(bus)

    async def heal(self, bus: Bus) -> None:
        assert isinstance(bus, LocalBus)
        self.exchanges[""].heal(bus)

    async def meddle(self, bus: Bus) -> int:
        return 0


class TestLocalBus(BusContract):
    @pytest.fixture
    def place(self) -> Place:
        return LocalPlace()
