"""The directory over the bus against the contract of all directories."""

import pytest

from tests.contracts.directory import DirectoryContract, Place
from tests.directory.places import BusPlace


class TestBusDirectory(DirectoryContract):
    @pytest.fixture
    def place(self) -> Place:
        return BusPlace()
