"""Damaged files: never a wrong letter, never silently less."""

import random
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from smart_router.stores.base import Revocation, SubEndpoint
from smart_router.stores.sqlite import SqliteStore
from tests.contracts.store import EVERYTHING, letter

LETTERS = [letter(number, body=b"%06d" % number * 50) for number in range(120)]


@pytest.fixture
async def whole(tmp_path: Path) -> bytes:
    """A sound file with a bit of everything."""
    path = tmp_path / "whole.db"
    store = SqliteStore(path)
    await store.open()
    await store.add_dead_letters(LETTERS)
    await store.add_revocation(Revocation(at=5, subject="alice"))
    await store.add_sub_endpoint(SubEndpoint("agent", "458", 7))
    await store.close()
    return path.read_bytes()


async def reopened(path: Path) -> tuple[SqliteStore, list[str]]:
    store = SqliteStore(path)
    with capture_logs() as logs:
        await store.open()
        found = await store.dead_letters(EVERYTHING, limit=1000)
    assert found == [one for one in LETTERS if one in found], "what is there is as it was, in order, once"
    assert store.statistics().dead_letters == len(found) or not store.statistics().healthy
    if len(found) < len(LETTERS):
        assert logs, "never silently less"
    return store, [str(one["event"]) for one in logs]


@pytest.mark.parametrize("seed", range(60))
async def test_a_flipped_bit_or_a_cut(whole: bytes, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    content = bytearray(whole)
    if seed % 4 == 0:
        del content[choose.randrange(1, len(content)) :]
    else:
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    path = tmp_path / "store.db"
    path.write_bytes(content)
    store, events = await reopened(path)
    assert (tmp_path / "store.db.damaged-1").exists() == ("store_put_aside" in events)
    await store.add_dead_letters([letter(900)])
    await store.close()
    again = SqliteStore(path)
    await again.open()
    await again.close()
    assert not (tmp_path / "store.db.damaged-2").exists(), "the new file is sound"


async def test_what_lies_around_the_damage_is_saved(whole: bytes, tmp_path: Path) -> None:
    content = bytearray(whole)
    place = content.index(LETTERS[60].body)
    page = place - place % 4096
    content[page : page + 4096] = b"\xa5" * 4096
    path = tmp_path / "store.db"
    path.write_bytes(content)
    store, events = await reopened(path)
    assert events == ["store_put_aside"]
    saved = await store.dead_letters(EVERYTHING, limit=1000)
    assert 90 <= len(saved) < 120
    assert (saved[0], saved[-1]) == (LETTERS[0], LETTERS[-1])
    assert await store.revocations() == [Revocation(at=5, subject="alice")]
    assert await store.sub_endpoints() == [SubEndpoint("agent", "458", 7)]
    assert store.statistics()[2:] == (1, 1, True, "")
    await store.close()


async def test_what_is_in_the_wal_is_saved_too(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(whole)
    with sqlite3.connect(path) as other:
        other.execute("insert into sub_endpoints values ('ui', '9', 8)")
        other.commit()
        wal = (tmp_path / "store.db-wal").read_bytes()
    other.close()
    content = bytearray(whole)
    place = content.index(LETTERS[60].body)
    content[place - place % 4096 : place - place % 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    (tmp_path / "store.db-wal").write_bytes(wal)
    store, events = await reopened(path)
    assert events == ["store_put_aside"]
    assert SubEndpoint("ui", "9", 8) in await store.sub_endpoints()
    await store.close()


async def test_a_file_that_was_cut_is_read_up_to_the_cut(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(whole[: len(whole) - 4 * 4096])
    store, events = await reopened(path)
    assert events == ["store_put_aside"]
    assert store.statistics().dead_letters >= 60
    await store.close()


async def test_nothing_to_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"\xa5" * 8192)
    store, events = await reopened(path)
    assert events == ["store_put_aside"]
    assert (tmp_path / "store.db.damaged-1").read_bytes() == b"\xa5" * 8192
    await store.close()
