"""L1: readers stop reading. Nobody else notices, what they are sent waits on disk, and nothing of it is lost."""

import asyncio
import contextlib
import os
from pathlib import Path

import msgspec
import pytest

from faults.wire import Link
from tests.processes import ServerProcess

__all__: list[str] = []

READERS = 100
STALLED = 20
ROUNDS = 20
EACH = 100  # messages to each stalled reader in a round
FILLED = 5  # rounds until their windows are full and the journal has its memory
TEXT = "x" * 4096
DEADLINE = 60
# After that they are sent 115 MB more, which has to wait on disk.
GROWTH = 48 * 1024 * 1024


class Reader:
    """An agent that notes the numbers of what it hears; `end` is set when the last has come so many `times`."""

    def __init__(self, link: Link, last: int, times: int = 1) -> None:
        self.link = link
        self.heard: list[int] = []
        self.end = asyncio.Event()
        self._last = last
        self._times = times

    async def run(self) -> None:
        async for packet in self.link.packets():
            if packet.kind == "2" and packet.data[0] == "talk":
                self.heard.append(packet.data[1]["payload"]["n"])
                if self.heard[-self._times :] == [self._last] * self._times:
                    self.end.set()


class Sender:
    """A page that waits for the answer to each batch."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._unanswered: set[int] = set()
        self._answered = asyncio.Event()

    async def run(self) -> None:
        async for packet in self._link.packets():
            if packet.kind == "3" and packet.number is not None:
                assert packet.data[0].get("status") == "queued", packet.data
                self._unanswered.discard(packet.number)
                if not self._unanswered:
                    self._answered.set()

    async def send(self, to: list[str], n: int) -> None:
        self._answered.clear()
        self._unanswered = set(range(len(to)))
        for number, address in enumerate(to):
            message = {"ids": {"agent": address}, "payload": {"n": n, "text": TEXT}}
            await self._link.emit(msgspec.json.encode(["talk", message]), number)
        await asyncio.wait_for(self._answered.wait(), DEADLINE)


def resident(server: ServerProcess) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.fault
async def test_twenty_among_a_hundred(server: ServerProcess, unique: str) -> None:
    names = [f"agent/456/{number}-{unique}" for number in range(READERS)]
    stalled_names = [f"agent/456/stalled-{number}-{unique}" for number in range(STALLED)]
    async with contextlib.AsyncExitStack() as stack:

        async def link(actor: str) -> Link:
            opened = await Link.open(server.port, "/" + actor.rsplit("/", 1)[0], {"actor": actor})
            stack.callback(opened.cut)
            return opened

        readers = [Reader(await link(name), ROUNDS - 1) for name in names]
        stalled = [Reader(await link(name), ROUNDS - 1, EACH) for name in stalled_names]
        sender = Sender(await link(f"ui/456/{unique}"))
        tasks = [asyncio.create_task(one.run()) for one in (*readers, *stalled)]
        tasks.append(asyncio.create_task(sender.run()))
        for task in tasks:
            stack.callback(task.cancel)

        for reader in stalled:
            reader.link.stall()
        before = 0
        for n in range(ROUNDS):
            await sender.send(names, n)
            for _ in range(EACH):
                await sender.send(stalled_names, n)
            if n == FILLED:
                before = resident(server)
        await asyncio.wait_for(asyncio.gather(*(reader.end.wait() for reader in readers)), DEADLINE)
        assert all(reader.heard == list(range(ROUNDS)) for reader in readers)
        assert not any(reader.end.is_set() for reader in stalled), "they have not read what they were sent"
        assert resident(server) - before < GROWTH

        for reader in stalled:
            reader.link.cut()
        back = [Reader(await link(name), ROUNDS - 1, EACH) for name in stalled_names]
        for reader in back:
            stack.callback(asyncio.create_task(reader.run()).cancel)
        await asyncio.wait_for(asyncio.gather(*(reader.end.wait() for reader in back)), DEADLINE)
        assert all(reader.heard == [n for n in range(ROUNDS) for _ in range(EACH)] for reader in back)
