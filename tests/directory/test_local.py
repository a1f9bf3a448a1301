"""The directory of a node alone against the contract of all directories, as far as one node goes."""

import pytest

from tests.contracts.directory import DirectoryContract, Place
from tests.directory.places import LocalPlace


class TestLocalDirectory(DirectoryContract):
    @pytest.fixture
    def place(self) -> Place:
        return LocalPlace()
