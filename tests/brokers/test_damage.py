"""Row C8: one bit flipped, or the file cut. What is read is right, and a damaged journal is said to be damaged."""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from smart_router.brokers.base import Entry, MailboxPolicy, PutResult
from smart_router.brokers.embedded import EmbeddedBroker
from smart_router.clock import SystemClock
from smart_router.errors import StorageLocked
from smart_router.message import Message

POLICY = MailboxPolicy(max_messages=0, max_bytes=0)
COUNT = 200


async def opened(path: Path) -> EmbeddedBroker:
    broker = EmbeddedBroker(f"embedded://{path}", SystemClock())
    await broker.open()
    return broker


async def filled(path: Path) -> EmbeddedBroker:
    """A journal with messages from a few bytes to several pages."""
    broker, chance = await opened(path), random.Random(8)
    loop = asyncio.get_running_loop()
    results = []
    for number in range(COUNT):
        body = chance.randbytes(chance.choice((10, 300, 3_000, 30_000) if number % 10 == 0 else (10, 300)))
        message = Message(id=f"m{number:03}", sender="ui/1", at=0, type="t", body=body, priority=number % 3)
        result: asyncio.Future[PutResult] = loop.create_future()
        broker.put([Entry(message, f"ui/{number % 5}", POLICY)], result.set_result)
        results.append(result)
        if number % 20 == 0:
            await result
    await asyncio.gather(*results)
    return broker


async def content(broker: EmbeddedBroker) -> dict[tuple[str, str], Message]:
    found = {}
    for box in await broker.mailboxes(limit=1000):
        for entry in await broker.peek(box.address, limit=1000):
            found[box.address, entry.message.id] = entry.message
    return found


def damage(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if chance.random() < 0.25:
        data = data[: chance.randrange(len(data))]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


class Originals:
    """`clean`: after a close; `log`: with a log, as after a kill."""

    def __init__(self, folder: Path) -> None:
        self.clean, self.log = folder / "clean", folder / "log"
        self.messages: dict[tuple[str, str], Message] = {}


async def make_originals(folder: Path) -> Originals:
    found = Originals(folder)
    broker = await filled(found.clean / "journal.db")
    found.messages = await content(broker)
    found.log.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copy(found.clean / name, found.log / name)
    await broker.close()
    assert len(found.messages) == COUNT
    return found


@pytest.fixture
async def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return await make_originals(tmp_path_factory.mktemp("damage"))


async def check(folder: Path, originals: Originals) -> int:
    """Opens it: exact, or said to be damaged and never a wrong message. How many were rescued; -1: undamaged."""
    broker = await opened(folder / "journal.db")
    found = await content(broker)
    healthy = broker.statistics().healthy
    await broker.close()
    aside = list(folder.glob("journal.db.damaged-*[0-9]"))
    if not aside:
        assert healthy
        assert found == originals.messages
        return -1
    assert found.items() <= originals.messages.items()
    return len(found)


async def run_seeds(seeds: range, originals: Originals, folder: Path) -> list[int]:
    rescued = []
    for seed in seeds:
        chance, work = random.Random(seed), folder / str(seed)
        shutil.copytree(originals.clean, work)
        damage(work / "journal.db", chance)
        rescued.append(await check(work, originals))
        shutil.rmtree(work)
    return rescued


async def test_damage_is_found(originals: Originals, tmp_path: Path) -> None:
    rescued = await run_seeds(range(30), originals, tmp_path)
    assert max(rescued) > 0


@pytest.mark.fault
async def test_damage_is_found_with_three_hundred_seeds(originals: Originals, tmp_path: Path) -> None:
    rescued = await run_seeds(range(300), originals, tmp_path)
    flipped = [count for count in rescued if count >= 0]
    assert sum(count >= COUNT - 3 for count in flipped) > len(flipped) // 2


async def test_a_flipped_bit_in_the_log_is_found(originals: Originals, tmp_path: Path) -> None:
    """A log cut at its end is what a power loss leaves; a hole before its last commit is damage."""
    for seed in range(30):
        chance, work = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(originals.log, work)
        log = work / "journal.db-wal"
        data = bytearray(log.read_bytes())
        data[chance.randrange(len(data) // 2)] ^= 1 << chance.randrange(8)
        log.write_bytes(data)
        rescued = await check(work, originals)
        assert rescued == -1 or rescued > COUNT // 2


async def test_an_empty_file_is_damage_not_a_new_journal(originals: Originals, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"")
    assert await check(tmp_path, originals) == 0


async def test_the_damaged_file_stays_as_it_was(originals: Originals, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    shutil.copy(originals.clean / "journal.db", path)
    data = bytearray(path.read_bytes())
    data[:4096] = bytes(4096)
    path.write_bytes(data)
    assert await check(tmp_path, originals) == COUNT
    (aside,) = tmp_path.glob("journal.db.damaged-*")
    assert aside.read_bytes() == bytes(data)


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    broker = await opened(path)
    with pytest.raises(StorageLocked, match="another process") as caught:
        await opened(path)
    assert str(path) in caught.value.message
    await broker.close()
    await (await opened(path)).close()
