"""One scenario from start to end: server, proxy, clients, faults, and what the checker says of it.

                 commands                  faults
schedule ──► Scenario ──► worker processes ──► proxy ──► server
                 ▲               │ records                 ▲
                 └── checker ◄───┴── kill, stop, pause ────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from faults.checker import Verdict, check, failures, slowest_return
from faults.proxy import Proxy, Silence
from faults.records import Fault, Ready, Recorder, read_records
from faults.schedule import Step
from faults.server import Server
from faults.worker import Command, Pair, Plan, Progress

__all__ = ["CLASSES", "Outcome", "Workload", "run"]

CLASSES = ("received", "client", "memory")
_SETTLED_AFTER = 10.0
_SETTLE_TIMEOUT = 60.0
_SENDERS_PER_RECEIVER = 4
_LOOK_EVERY = 0.5
_ROOT = Path(__file__).resolve().parent.parent
_SILENCES = {"silent": Silence.BOTH, "silent-up": Silence.TO_SERVER, "silent-down": Silence.TO_CLIENT}


class Workload(msgspec.Struct):
    """What runs while the faults happen. `rate`: messages per second of all senders together."""

    clients: int
    rate: float
    seed: int
    retry: float = 0.0
    workers: int = 1
    classes: tuple[str, ...] = CLASSES


class Outcome(msgspec.Struct):
    """What one scenario came to; `problems` is empty when every promise was kept."""

    scenario: str
    steps: list[Step]
    verdicts: list[Verdict]
    problems: list[str]
    slowest_return: float | None
    resident: int
    """The most memory the server held at any look at it."""


async def run(
    scenario: str, steps: list[Step], seconds: float, workload: Workload, server: Server, folder: Path
) -> Outcome:
    """Runs the workload for `seconds` with these faults, waits until it settles, and checks it."""
    await server.start()
    with Recorder(folder / "faults.jsonl") as record:
        async with Proxy(("127.0.0.1", server.port)) as proxy, _workers(workload, proxy.port, folder) as workers:
            await workers.all_connected(workload.clients)
            act = _Faults(server, proxy, workers, record, random.Random(f"{workload.seed} faults"))
            await act.follow(steps, seconds)
            await workers.settle()
    problems = act.problems
    status = await server.terminate()
    if status != 0:
        problems.append(f"the server ended with status {status} after SIGTERM at the end")
    records = read_records(folder)
    verdicts = check(records)
    return Outcome(scenario, steps, verdicts, problems + failures(verdicts), slowest_return(records), act.most_resident)


class _Faults:
    """Carries out the steps, each at its time; long ones overlap with what follows."""

    def __init__(self, server: Server, proxy: Proxy, workers: _Workers, record: Recorder, rng: random.Random) -> None:
        self._server = server
        self._proxy = proxy
        self._workers = workers
        self._record = record
        self._rng = rng
        self._one_at_a_time = asyncio.Lock()
        self.problems: list[str] = []
        self.most_resident = 0

    async def follow(self, steps: list[Step], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        looks = asyncio.create_task(self._look())
        async with asyncio.TaskGroup() as group:
            for step in [*steps, Step(seconds, "end")]:
                await asyncio.sleep(max(0.0, start + step.at - loop.time()))
                self._record(Fault(self._record.now(), step.fault, str(step)))
                group.create_task(self._do(step))
        looks.cancel()

    async def _look(self) -> None:
        while True:
            self.most_resident = max(self.most_resident, self._server.resident)
            await asyncio.sleep(_LOOK_EVERY)

    async def _do(self, step: Step) -> None:
        if step.fault in ("kill", "stop", "pause"):
            async with self._one_at_a_time:
                await self._to_server(step)
        elif step.fault == "absent":
            await self._workers.tell(Command("absent", step.part, step.seconds))
        elif step.fault != "end":
            self._to_connections(step)

    async def _to_server(self, step: Step) -> None:
        if step.fault == "pause":
            self._server.pause()
            await asyncio.sleep(step.seconds)
            self._server.resume()
            return
        status = await (self._server.kill() if step.fault == "kill" else self._server.terminate())
        if step.fault == "stop" and status != 0:
            self.problems.append(f"SIGTERM under load: status {status}")
        await asyncio.sleep(step.seconds)
        await self._server.start()
        self._record(Ready(self._record.now(), status))

    def _to_connections(self, step: Step) -> None:
        for connection in self._proxy.some(step.part, self._rng):
            if step.fault == "fin":
                connection.cut()
            elif step.fault == "rst":
                connection.reset()
            elif step.fault == "delay":
                connection.delay = step.seconds
            elif step.fault == "trickle":
                connection.trickle = True
            else:
                connection.silence |= _SILENCES[step.fault]


class _Workers:
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
        async with asyncio.timeout(_SETTLE_TIMEOUT), self._news:
            await self._news.wait_for(lambda: self._total.connected >= clients)

    async def settle(self) -> None:
        """No new messages; then until all is received, or nothing has changed for a while."""
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
        return total.unanswered == 0 and total.received >= total.sent


@contextlib.asynccontextmanager
async def _workers(workload: Workload, port: int, folder: Path) -> AsyncIterator[_Workers]:
    plans = _plans(workload, port, folder)
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
    workers = _Workers(processes)
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


async def _stop(workers: _Workers, processes: list[asyncio.subprocess.Process]) -> None:
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


def _plans(workload: Workload, port: int, folder: Path) -> list[Plan]:
    """Half of the clients send, half receive; each receiver has senders of its own class only, four of them."""
    pairs, receivers = _cast(workload)
    rate = workload.rate / max(1, len(pairs))
    return [
        Plan(
            f"worker-{number}",
            str(folder),
            port,
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
