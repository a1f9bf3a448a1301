"""The processes of clients: when they have settled."""

import asyncio
import sys

import msgspec

from faults.worker import Command, Progress
from faults.workers import Workers

__all__: list[str] = []

# Says each line that it is given at start, then one more for each command that it gets.
SCRIPTED = """
import sys
first, *more = sys.argv[1:]
print(first, flush=True)
for line in more:
    sys.stdin.readline()
    print(line, flush=True)
sys.stdin.readline()
"""


def report(sent: int, unanswered: int, received: int, making: int) -> str:
    return msgspec.json.encode(Progress(sent, unanswered, received, connected=1, making=making)).decode()


async def test_a_report_from_before_the_end_does_not_settle_it() -> None:
    before = report(sent=5, unanswered=0, received=5, making=1)
    after = report(sent=6, unanswered=1, received=5, making=0)
    complete = report(sent=6, unanswered=0, received=6, making=0)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPTED, before, after, complete),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    workers = Workers([process])
    listener = asyncio.create_task(workers.listen(process))
    await workers.all_connected(1)
    settled = asyncio.create_task(workers.settle())
    await workers.reported(lambda total: total.sent == 6)
    assert not settled.done()
    await workers.tell(Command("go on"))
    await asyncio.wait_for(settled, 10)
    listener.cancel()
    await workers.tell(Command("stop"))
    assert await process.wait() == 0
