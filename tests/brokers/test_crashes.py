"""Rows C4, C5 and C7: a process that dies, or whose disk does, in the middle of its journal's writes."""

import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from smart_router.brokers.base import Entry, MailboxPolicy
from smart_router.brokers.embedded import EmbeddedBroker
from smart_router.clock import SystemClock

CHILD = [sys.executable, "-m", "tests.brokers.journal_child"]
ROOT = Path(__file__).parents[2]
POLICY = MailboxPolicy(max_messages=0, max_bytes=0)
PIPED: Any = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
STRACE = shutil.which("strace")

needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


class Life:
    """What one child said before it ended."""

    def __init__(self, output: str) -> None:
        lines = output.split("\n")[:-1]
        self.lines = lines
        self.acknowledged = {int(line) for line in lines if line.isdigit()}
        self.got = {int(line.removeprefix("got ")) for line in lines if line.startswith("got ")}
        self.last = max(self.acknowledged | self.got, default=0)


def live(command: list[str], seconds: float) -> Life:
    """Kills the child that long after it said that it is open."""
    with subprocess.Popen(command, **PIPED) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        rest = child.stdout.read()
        timer.join()
    return Life(first + rest)


async def kept(path: Path) -> set[int]:
    """Numbers in the journal; it is opened, and whole."""
    broker = EmbeddedBroker(f"embedded://{path}", SystemClock())
    await broker.open()
    assert not list(path.parent.glob("*.damaged-*"))
    found: set[int] = set()
    for box in await broker.mailboxes():
        waiting: list[Entry] = await broker.peek(box.address, limit=1 << 30)
        numbers = [int(entry.message.id) for entry in waiting]
        assert numbers == sorted(numbers)
        assert all(entry.message.body == str(n).encode() * 20 for n, entry in zip(numbers, waiting, strict=True))
        found.update(numbers)
    await broker.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()
    return found


async def assert_nothing_lost(path: Path, lives: list[Life]) -> None:
    acknowledged = set().union(*(one.acknowledged for one in lives))
    confirmed = set().union(*(one.got for one in lives))
    lost = acknowledged - confirmed - await kept(path)
    assert lost == set()


@pytest.mark.fault
async def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    path, chance, lives, first = tmp_path / "journal.db", random.Random(4), [], 1
    for _ in range(50):
        life = live([*CHILD, str(path), str(first)], chance.uniform(0.001, 0.05))
        first = max(first, life.last) + 1000
        lives.append(life)
    assert sum(len(one.acknowledged) for one in lives) > 500
    await assert_nothing_lost(path, lives)


@pytest.mark.fault
@needs_strace
@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 200])
async def test_a_kill_at_a_write_loses_nothing(tmp_path: Path, number: int) -> None:
    path = tmp_path / "journal.db"
    lives = [Life(subprocess.run([*CHILD, str(path), "1", "100"], check=False, **PIPED).stdout)]
    assert len(lives[0].acknowledged) == 100
    strace = [str(STRACE), "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64"]
    strace += ["-e", f"inject=pwrite64:signal=KILL:when={number}"]
    command = [*strace, *CHILD, str(path), "1001", "2000"]
    lives.append(Life(subprocess.run(command, check=False, **PIPED).stdout))
    await assert_nothing_lost(path, lives)


@pytest.mark.fault
@needs_strace
async def test_no_acknowledgement_before_its_rows_are_synced(tmp_path: Path) -> None:
    """C5: between the write of a number and its acknowledgement lies a returned fdatasync of the log."""
    path, trace = tmp_path / "journal.db", tmp_path / "trace"
    strace = [str(STRACE), "-f", "-qq", "-s", "1000000", "-xx", "-o", str(trace)]
    strace += ["-e", "trace=pwrite64,fdatasync,fsync,write"]
    subprocess.run([*strace, *CHILD, str(path), "1", "60"], stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
    unsynced, safe, told, unfinished = b"", b"", 0, False
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line)
        if call is None:
            continue
        data = bytes.fromhex("".join(re.findall(r"\\x(..)", line)))
        if call[1] == "pwrite64":
            unsynced += data
        elif call[1] in ("fdatasync", "fsync"):
            if "unfinished" in line:
                unfinished = True
                continue
            assert line.rstrip().endswith("= 0"), line
            safe, unsynced, unfinished = safe + unsynced, b"", False
        elif call[1] == "write" and data.strip().isdigit():
            number = data.strip()
            if int(number) % 8:
                assert number * 20 in safe, f"{number!r} was acknowledged before it was synced"
                told += 1
    assert told > 40
    assert not unfinished


@pytest.mark.fault
@needs_strace
@pytest.mark.parametrize("number", [25, 40])
async def test_a_failed_sync_ends_the_journal(tmp_path: Path, number: int) -> None:
    """C7: nothing is acknowledged after it, the sync is not tried again."""
    path, trace = tmp_path / "journal.db", tmp_path / "trace"
    strace = [str(STRACE), "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync,fsync,pwrite64"]
    strace += ["-e", f"inject=fdatasync:error=EIO:when={number}"]
    result = subprocess.run([*strace, *CHILD, str(path), "1"], check=False, **PIPED, timeout=30)
    life = Life(result.stdout)
    assert result.returncode == 7
    after = life.lines[life.lines.index("failed storage_failed") :]
    assert not [line for line in after if line.isdigit()]
    assert "storage_failed" in life.lines
    calls = trace.read_text().splitlines()
    failed_at = next(index for index, line in enumerate(calls) if "EIO" in line)
    assert not [line for line in calls[failed_at + 1 :] if "sync(" in line or "pwrite64(" in line]
    await assert_nothing_lost(path, [life])
