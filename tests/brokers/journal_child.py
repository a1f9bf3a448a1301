"""Journals numbered messages and prints the number of each that was acknowledged: `journal_child PATH FIRST [COUNT]`.

Three of four go to mailboxes that nobody reads, the fourth to one whose reader confirms every other message. A refusal
prints its code; a failed journal prints `failed` and ends with status 7.
"""

import asyncio
import os
import sys
from collections.abc import Callable

from smart_router.brokers.base import Entry, MailboxPolicy, PutResult
from smart_router.brokers.embedded import EmbeddedBroker
from smart_router.clock import SystemClock
from smart_router.errors import StorageError
from smart_router.message import Message

POLICY = MailboxPolicy(max_messages=0, max_bytes=0)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


class Half:
    def __init__(self, broker: EmbeddedBroker) -> None:
        self._broker = broker

    def deliver(self, entry: Entry) -> None:
        number = int(entry.message.id)
        if number % 8 == 0:
            say(f"got {number}")
            self._broker.ack([entry])


async def send_all(
    numbers: range, window: asyncio.Semaphore, send: Callable[[int], None], ended: asyncio.Future[int]
) -> None:
    for number in numbers:
        await window.acquire()
        if ended.done():
            return
        send(number)


async def main(path: str, first: int, count: int) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def failed(error: StorageError) -> None:
        say(f"failed {error.code}")
        if not ended.done():
            ended.set_result(7)

    def finish() -> None:
        if not ended.done():
            ended.set_result(0)

    broker = EmbeddedBroker(f"embedded://{path}", SystemClock(), on_failed=failed)
    await broker.open()
    subscription = await broker.subscribe("live/0", POLICY, Half(broker))
    subscription.grant(1 << 30)
    say("open")
    window = asyncio.Semaphore(64)

    def send(number: int) -> None:
        def done(result: PutResult) -> None:
            window.release()
            say(next(iter(result.refused.values())).code if result.refused else str(number))

        address = "live/0" if number % 4 == 0 else f"away/{number % 7}"
        message = Message(id=str(number), sender="child/1", at=0, type="n", body=str(number).encode() * 20)
        broker.put([Entry(message, address, POLICY)], done)

    await send_all(range(first, first + count), window, send, ended)
    loop.call_later(1, finish)
    status = await ended
    if status == 0:
        await broker.close()
    say("end")
    return status


if __name__ == "__main__":
    os._exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1 << 30)))
