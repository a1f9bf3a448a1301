"""`embedded://PATH` against the contract of all brokers."""

from pathlib import Path

import pytest

from tests.brokers.places import FilePlace
from tests.contracts.broker import BrokerContract, Place


class TestEmbeddedFile(BrokerContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return FilePlace(tmp_path)
