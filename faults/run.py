"""One scenario from start to end: server, proxy, clients, faults, and what the checker says of it.

                 commands                  faults
schedule ──► Scenario ──► worker processes ──► proxy ──► server
                 ▲               │ records                 ▲
                 └── checker ◄───┴── kill, stop, pause ────┘
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec

from faults.checker import Verdict, check, failures, slowest_return
from faults.proxy import Proxy, Silence
from faults.records import Fault, Ready, Recorder, read_records
from faults.schedule import Step
from faults.server import Server
from faults.worker import Command
from faults.workers import Workers, Workload, start_workers

__all__ = ["Outcome", "run"]

_LOOK_EVERY = 0.5
_SILENCES = {"silent": Silence.BOTH, "silent-up": Silence.TO_SERVER, "silent-down": Silence.TO_CLIENT}


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
        async with Proxy(("127.0.0.1", server.port)) as proxy, start_workers(workload, proxy.port, folder) as workers:
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

    def __init__(self, server: Server, proxy: Proxy, workers: Workers, record: Recorder, rng: random.Random) -> None:
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
