"""Places of the embedded broker for the contract suite."""

import resource
import shutil
from pathlib import Path

import structlog

from smart_router.brokers.base import Broker
from smart_router.brokers.embedded import EmbeddedBroker, EmbeddedOptions
from tests.contracts.broker import FakeClock

__all__ = ["FilePlace", "MemoryPlace"]


class MemoryPlace:
    def __init__(self) -> None:
        self.clock = FakeClock()

    async def open(self) -> Broker:
        broker = EmbeddedBroker("embedded://memory", self.clock)
        await broker.open()
        return broker

    async def crash(self, broker: Broker) -> None:
        await broker.close()

    def advance(self, broker: Broker, seconds: float) -> None:
        assert isinstance(broker, EmbeddedBroker)
        assert broker.deadlines is not None
        broker.deadlines.run(self.clock.now)

    async def take_storage_away(self, broker: Broker) -> None:
        raise NotImplementedError("memory has no storage")

    def give_storage_back(self, broker: Broker) -> None:
        raise NotImplementedError("memory has no storage")


class FilePlace(MemoryPlace):
    """A crash leaves a copy of the files as they are at that moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._lives = 0
        self._limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    @property
    def path(self) -> Path:
        return self._folder / str(self._lives) / "journal.db"

    async def open(self) -> Broker:
        # The limit on the size of files that these tests set holds for a captured log too.
        nowhere = structlog.wrap_logger(structlog.ReturnLogger())
        options = EmbeddedOptions(probe_every=0.01)
        broker = EmbeddedBroker(f"embedded://{self.path}", self.clock, options=options, log=nowhere)
        await broker.open()
        return broker

    async def crash(self, broker: Broker) -> None:
        before = self.path.parent
        self._lives += 1
        after = self.path.parent
        after.mkdir()
        for file in before.iterdir():
            if file.suffix != ".lock" and not file.name.endswith("-shm"):
                shutil.copy(file, after / file.name)
        await broker.close()

    async def take_storage_away(self, broker: Broker) -> None:
        """The log may not grow."""
        size = self.path.with_name("journal.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._limit[1]))

    def give_storage_back(self, broker: Broker) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limit)
