"""The processes of clients of one scenario: what each plays, and when all that was sent has come through."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from faults.worker import Command, Pair, Plan, Progress

__all__ = ["CLASSES", "Workers", "Workload", "start_workers"]

CLASSES = ("received", "client", "memory")
_SETTLED_AFTER = 10.0
_SETTLE_TIMEOUT = 60.0
_BACK_TIMEOUT = 20.0
_SENDERS_PER_RECEIVER = 4
_ROOT = Path(__file__).resolve().parent.parent


class Workload(msgspec.Struct):
    """What runs while the faults happen. `rate`: messages per second of all senders together."""

    clients: int
    rate: float
    seed: int
    retry: float = 0.0
    workers: int = 1
    classes: tuple[str, ...] = CLASSES


class Workers:
    """The processes of clients."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes
        self._progress: dict[int, Progress] = {}
        self._news = asyncio.Condition()

    async def tell(self, command: Command) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(command) + b"\n")
            await process.stdin.drain()

    async def listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            async with self._news:
                self._progress[process.pid] = msgspec.json.decode(line, type=Progress)
                self._news.notify_all()
        raise RuntimeError("a worker ended before its time; what it said stands above")

    async def all_connected(self, clients: int) -> None:
        await self.reported(lambda total: total.connected >= clients)

    async def missing(self, clients: int) -> int:
        """How many of so many clients are not connected, after time enough to come back."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.all_connected(clients), _BACK_TIMEOUT)
        return max(0, clients - self._total.connected)

    async def reported(self, wanted: Callable[[Progress], bool]) -> None:
        """The latest reports add up to what is wanted; TimeoutError if they do not in time."""
        async with asyncio.timeout(_SETTLE_TIMEOUT), self._news:
            await self._news.wait_for(lambda: wanted(self._total))

    async def settle(self) -> None:
        """No new messages; then until all is received, or nothing has changed for a while.

        A report from before the end proves nothing, however complete it looks: messages were made after it.
        """
        await self.tell(Command("end"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_TIMEOUT):
                while not self._complete:
                    await self._change(self._total)

    async def _change(self, before: Progress) -> None:
        async with asyncio.timeout(_SETTLED_AFTER), self._news:
            await self._news.wait_for(lambda: self._total != before)

    @property
    def _total(self) -> Progress:
        reports = self._progress.values()
        return Progress(*(sum(getattr(r, name) for r in reports) for name in Progress.__struct_fields__))

    @property
    def _complete(self) -> bool:
        total = self._total
        return total.making == 0 and total.unanswered == 0 and total.received >= total.sent


@contextlib.asynccontextmanager
async def start_workers(workload: Workload, ports: list[int], folder: Path) -> AsyncIterator[Workers]:
    """Running while the context is open. `ports`: where servers are."""
    plans = _plans(workload, ports, folder)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faults.worker",
            str(_write_plan(plan, folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        for plan in plans
    ]
    workers = Workers(processes)
    listeners = [asyncio.create_task(workers.listen(process)) for process in processes]
    try:
        yield workers
        for listener in listeners:
            if listener.done():
                listener.result()
    finally:
        for listener in listeners:
            listener.cancel()
        await _stop(workers, processes)


async def _stop(workers: Workers, processes: list[asyncio.subprocess.Process]) -> None:
    with contextlib.suppress(ConnectionError):
        await workers.tell(Command("stop"))
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


def _write_plan(plan: Plan, folder: Path) -> Path:
    path = folder / f"{plan.name}.json"
    path.write_bytes(msgspec.json.encode(plan))
    return path


def _plans(workload: Workload, ports: list[int], folder: Path) -> list[Plan]:
    """Half of the clients send, half receive; each receiver has senders of its own class only, four of them."""
    pairs, receivers = _cast(workload)
    rate = workload.rate / max(1, len(pairs))
    return [
        Plan(
            f"worker-{number}",
            str(folder),
            ports,
            workload.seed,
            rate,
            workload.retry,
            pairs[number :: workload.workers],
            receivers[number :: workload.workers],
        )
        for number in range(workload.workers)
    ]


def _cast(workload: Workload) -> tuple[list[Pair], list[str]]:
    each = max(1, workload.clients // (2 * len(workload.classes)))
    pairs, receivers = [], []
    for name in workload.classes:
        own = [f"{name}/r{number}" for number in range(each)]
        receivers += own
        for number in range(each):
            to = [own[(number + step) % each] for step in range(min(each, _SENDERS_PER_RECEIVER))]
            pairs.append(Pair(f"{name}/s{number}", to))
    return pairs, receivers
