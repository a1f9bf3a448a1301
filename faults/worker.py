"""One process of clients: `python -m faults.worker FILE`, where FILE holds a `Plan` as JSON.

Lines in are commands: `{"do": "absent", "part", "seconds"}`, `{"do": "end"}` (no new messages), `{"do": "stop"}`.
A line goes out every half second: `Progress`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import uvloop

from faults.clients import Client, Receiver, Sender
from faults.records import Recorder

__all__ = ["Command", "Pair", "Plan", "Progress", "main"]

_REPORT_EVERY = 0.5
_STARTS_PER_SECOND = 250


class Pair(msgspec.Struct):
    """A sender, and the receivers that it writes to."""

    sender: str
    to: list[str]


class Plan(msgspec.Struct):
    name: str
    folder: str
    ports: list[int]
    """Of the servers; a client comes back to another than it was at."""
    seed: int
    rate: float
    """Messages per second of one sender."""
    retry: float
    senders: list[Pair]
    receivers: list[str]


class Command(msgspec.Struct):
    do: str
    part: float = 0.0
    seconds: float = 0.0


class Progress(msgspec.Struct):
    """Counts so far. `connected`: clients that are; `making`: senders that were not told to end."""

    sent: int
    unanswered: int
    received: int
    connected: int
    making: int


class _Worker:
    def __init__(self, plan: Plan, record: Recorder) -> None:
        self._rng = random.Random(f"{plan.seed} {plan.name}")
        self._senders = [
            Sender(pair.sender, plan.ports, record, random.Random(f"{plan.seed} {pair.sender}"), pair.to, plan.rate)
            for pair in plan.senders
        ]
        for sender in self._senders:
            sender.retry = plan.retry
        self._receivers = [
            Receiver(actor, plan.ports, record, random.Random(f"{plan.seed} {actor}"), recover=number % 2 == 0)
            for number, actor in enumerate(plan.receivers)
        ]
        self._absences: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        clients: list[Client] = [*self._receivers, *self._senders]
        tasks = [asyncio.create_task(client.run(n / _STARTS_PER_SECOND)) for n, client in enumerate(clients)]
        tasks += [asyncio.create_task(sender.make()) for sender in self._senders]
        report = asyncio.create_task(self._report(clients))
        reader = asyncio.create_task(self._obey())
        await asyncio.wait([reader, *tasks, report], return_when=asyncio.FIRST_EXCEPTION)
        for task in [reader, *tasks, report]:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
            task.cancel()
        await asyncio.gather(*tasks, report, return_exceptions=True)

    async def _obey(self) -> None:
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
        )
        while line := await lines.readline():
            command = msgspec.json.decode(line, type=Command)
            if command.do == "end":
                for sender in self._senders:
                    sender.ended = True
            elif command.do == "absent":
                self._send_away(command)
            else:
                break
        raise EOFError

    def _send_away(self, command: Command) -> None:
        count = max(1, round(len(self._receivers) * command.part))
        for receiver in self._rng.sample(self._receivers, min(count, len(self._receivers))):
            task = asyncio.create_task(receiver.leave(command.seconds))
            self._absences.add(task)
            task.add_done_callback(self._absences.discard)

    async def _report(self, clients: list[Client]) -> None:
        while True:
            progress = Progress(
                sum(sender.sent for sender in self._senders),
                sum(sender.unanswered for sender in self._senders),
                sum(len(receiver.received) for receiver in self._receivers),
                sum(client.link is not None for client in clients),
                sum(not sender.ended for sender in self._senders),
            )
            print(msgspec.json.encode(progress).decode(), flush=True)
            await asyncio.sleep(_REPORT_EVERY)


def main() -> None:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    with Recorder(Path(plan.folder) / f"{plan.name}.jsonl") as record:
        try:
            uvloop.run(_Worker(plan, record).run())
        except EOFError:
            return


if __name__ == "__main__":
    main()
