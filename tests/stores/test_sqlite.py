"""The SQLite store: the contract, and what only a file can suffer."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from smart_router.errors import ConfigError, StorageError, StorageFailed, StorageFull, StorageLocked
from smart_router.stores.base import Store, SubEndpoint
from smart_router.stores.sqlite import SqliteStore, from_url
from tests.contracts.store import EVERYTHING, Fault, Opener, StoreContract, letter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


@pytest.fixture
async def opener(path: Path) -> AsyncIterator[Opener]:
    opened: list[SqliteStore] = []

    async def reopen() -> Store:
        for store in opened:
            await store.close()
        opened.append(SqliteStore(path))
        await opened[-1].open()
        return opened[-1]

    yield reopen
    await opened[-1].close()


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Puts back the limit that a test sets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def fault(path: Path, file_size_limit: None) -> Fault:
    async def make(store: Store, error: type[StorageError]) -> None:
        if error is StorageFull:
            wal = path.with_name(path.name + "-wal")
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(wal.stat().st_size, 65_536), hard))
        else:
            with sqlite3.connect(path) as other:
                other.execute("pragma wal_checkpoint(truncate)")
            other.close()
            path.write_bytes(b"\xa5" * path.stat().st_size)

    return make


class TestSqlite(StoreContract):
    pass


@pytest.fixture
async def store(opener: Opener) -> Store:
    return await opener()


async def test_when_there_is_room_again_it_goes_on_by_itself(store: Store, fault: Fault) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    await fault(store, StorageFull)
    many = [letter(number, body=b"x" * 60_000) for number in range(40)]
    with pytest.raises(StorageFull):
        await store.add_dead_letters(many)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    await store.probe()
    await store.add_dead_letters(many)
    assert store.statistics()[::4] == (40, True)
    assert await store.dead_letters(EVERYTHING) == many


async def test_after_the_medium_failed_nothing_is_tried_again(store: Store, fault: Fault, path: Path) -> None:
    await store.add_sub_endpoint(SubEndpoint("agent", "1", 1))
    whole = path.read_bytes()
    await fault(store, StorageFailed)
    with pytest.raises(StorageFailed):
        await store.add_dead_letters([letter(1)])
    path.write_bytes(whole)
    with pytest.raises(StorageFailed):
        await store.probe()


async def test_a_second_process_is_refused(store: Store, path: Path) -> None:
    with pytest.raises(StorageLocked, match="another process"):
        await SqliteStore(path).open()
    await store.probe()


async def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Not a directory|File exists"):
        await SqliteStore(tmp_path / "file" / "store.db").open()


async def test_a_damaged_letter_is_left_out_and_told(store: Store, path: Path) -> None:
    await store.add_dead_letters([letter(number) for number in range(3)])
    with sqlite3.connect(path) as other:
        other.execute("update dead_letters set record = cast('x' as blob) where id = 'id-000001'")
    other.close()
    assert await store.dead_letters(EVERYTHING, limit=2) == [letter(0), letter(2)]
    assert (store.statistics().healthy, "1 dead letters" in store.statistics().reason) == (False, True)


async def test_more_calls_than_may_wait_are_refused(store: Store) -> None:
    results = await asyncio.gather(*(store.probe() for _ in range(1_200)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, StorageError)]
    assert len(refused) == 200
    assert {(error.code, error.temporary) for error in refused} == {("busy", True)}
    await store.probe()


async def test_the_loop_goes_on_meanwhile(store: Store) -> None:
    turns = 0
    adding = asyncio.ensure_future(store.add_dead_letters([letter(number) for number in range(2_000)]))
    while not adding.done():
        turns += 1
        await asyncio.sleep(0)
    await adding
    assert turns > 1


def test_urls(tmp_path: Path) -> None:
    assert from_url("/", tmp_path)._path == tmp_path / "store.db"
    assert from_url("/other.db", tmp_path)._path == Path("other.db")
    assert from_url("//var/other.db", tmp_path)._path == Path("/var/other.db")
    with pytest.raises(ConfigError, match="three slashes"):
        from_url("other.db", tmp_path)
