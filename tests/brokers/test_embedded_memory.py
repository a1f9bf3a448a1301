"""`embedded://memory` against the contract of all brokers."""

import pytest

from tests.brokers.places import MemoryPlace
from tests.contracts.broker import BrokerContract, Place


class TestEmbeddedMemory(BrokerContract):
    @pytest.fixture
    def place(self) -> Place:
        return MemoryPlace()
