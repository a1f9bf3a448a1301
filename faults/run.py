"""One scenario from start to end: servers, proxies, clients, faults, and what the checker says of it.

                 commands                  faults             faults
schedule ──► Scenario ──► worker processes ──► proxy ──► servers ──► proxy ──► broker
                 ▲               │ records                 ▲                     ▲
                 └── checker ◄───┴── kill, stop, pause ────┴─────────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import msgspec

from faults.amqp_frames import Place
from faults.checker import Verdict, check, failures, longest_absence, slowest_return
from faults.installation import Installation, Member
from faults.proxy import Connection, Silence
from faults.records import Fault, Ready, Recorder, read_records
from faults.schedule import Step
from faults.worker import Command
from faults.workers import Workers, Workload, start_workers

__all__ = ["Outcome", "run"]

_LOOK_EVERY = 0.5
_FRAME_TIMEOUT = 0.5
_PLACES: tuple[Place, ...] = ("before", "middle", "after")
_SILENCES = {"silent": Silence.BOTH, "silent-up": Silence.TO_SERVER, "silent-down": Silence.TO_CLIENT}


class Outcome(msgspec.Struct):
    """What one scenario came to; `problems` is empty when every promise was kept."""

    scenario: str
    steps: list[Step]
    verdicts: list[Verdict]
    problems: list[str]
    slowest_return: float | None
    resident: int
    """The most memory that a server held at any look at it."""


async def run(
    scenario: str, steps: list[Step], seconds: float, workload: Workload, installation: Installation, folder: Path
) -> Outcome:
    """Runs the workload for `seconds` with these faults, waits until it settles, and checks it."""
    await installation.start()
    with Recorder(folder / "faults.jsonl") as record:
        async with start_workers(workload, installation.ports, folder) as workers:
            await workers.all_connected(workload.clients)
            act = _Faults(installation, workers, record, random.Random(f"{workload.seed} faults"))
            await act.follow(steps, seconds)
            await workers.settle()
            if missing := await workers.missing(workload.clients):
                act.problems.append(f"{missing} clients were not served again")
    problems = act.problems
    for status in await installation.terminate():
        if status != 0:
            problems.append(f"a server ended with status {status} after SIGTERM at the end")
    records = read_records(folder)
    verdicts = check(records)
    back = slowest_return(records) if len(installation.members) == 1 else longest_absence(records)
    return Outcome(scenario, steps, verdicts, problems + failures(verdicts), back, act.most_resident)


class _Faults:
    """Carries out the steps, each at its time; long ones overlap with what follows."""

    def __init__(self, installation: Installation, workers: Workers, record: Recorder, rng: random.Random) -> None:
        self._installation = installation
        self._workers = workers
        self._record = record
        self._rng = rng
        self._between = {"broker": self._to_broker, "partition": self._to_network, "frame": self._to_frame}
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
            self.most_resident = max(self.most_resident, self._installation.resident)
            await asyncio.sleep(_LOOK_EVERY)

    async def _do(self, step: Step) -> None:
        if step.fault in ("kill", "stop", "pause"):
            await self._to_server(step, self._rng.choice(self._installation.members))
        elif step.fault == "roll":
            for member in self._installation.members:
                await self._to_server(step, member)
        elif step.fault in self._between:
            await self._between[step.fault](step)
        elif step.fault == "absent":
            await self._workers.tell(Command("absent", step.part, step.seconds))
        elif step.fault != "end":
            self._to_connections(step)

    async def _to_server(self, step: Step, member: Member) -> None:
        server = member.server
        async with member.lock:
            if step.fault == "pause":
                server.pause()
                await asyncio.sleep(step.seconds)
                server.resume()
                return
            status = await (server.kill() if step.fault == "kill" else server.terminate())
            if step.fault != "kill" and status != 0:
                self.problems.append(f"SIGTERM under load: status {status}")
            await asyncio.sleep(step.seconds)
            await server.start()
            self._record(Ready(self._record.now(), status))

    async def _to_broker(self, step: Step) -> None:
        async with self._installation.broker_lock:
            await self._installation.broker.kill_one(self._rng)
            await asyncio.sleep(step.seconds)
            await self._installation.broker.bring_back()

    async def _to_network(self, step: Step) -> None:
        member = self._rng.choice(self._installation.members)
        member.part()
        await asyncio.sleep(step.seconds)
        member.heal()

    async def _to_frame(self, step: Step) -> None:
        """Of those that have passed so far, the one at this part of their list; if it does not come, by a reconnect."""
        member = self._rng.choice(self._installation.members)
        kinds = sorted(member.frames.seen)
        kind, place = kinds[int(step.part * len(kinds))], self._rng.choice(_PLACES)
        member.frames.arm(kind, place)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(member.frames.happened.wait(), _FRAME_TIMEOUT)
        if not member.frames.happened.is_set():
            member.reset()
        self._record(Fault(self._record.now(), "frame", f"{place} {kind}"))

    def _some(self, part: float) -> list[Connection]:
        """A part (0 to 1) of the clients' connections, at least one if there is any."""
        everyone = self._installation.connections
        return self._rng.sample(everyone, min(len(everyone), max(1, round(len(everyone) * part))))

    def _to_connections(self, step: Step) -> None:
        for connection in self._some(step.part):
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
