"""Journal elision: what is confirmed in time is never written, also when the loop is slower than the delay."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from smart_router.brokers.base import Entry, MailboxPolicy, PutResult
from smart_router.brokers.embedded import EmbeddedBroker, EmbeddedOptions
from smart_router.clock import SystemClock
from smart_router.message import Message
from tests.contracts.broker import Reader, until

POLICY = MailboxPolicy()
BOX = "ui/1/a"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(f"embedded://{tmp_path}/", SystemClock())
    await broker.open()
    yield broker
    await broker.close()


def put(broker: EmbeddedBroker, *addresses: str, key: str | None = None) -> asyncio.Future[PutResult]:
    future: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
    message = Message(id="m", sender="ui/1/b", at=0, type="t", body=b"x", key=key)
    entries = [Entry(message, address, POLICY) for address in addresses]
    broker.put(entries, future.set_result, ("ui/1/b", key, b"answer") if key is not None else None)
    return future


async def reading(broker: EmbeddedBroker, address: str = BOX) -> Reader:
    reader = Reader()
    (await broker.subscribe(address, POLICY, reader)).grant(1000)
    return reader


async def test_confirmed_at_once_is_never_written(broker: EmbeddedBroker) -> None:
    reader = await reading(broker)
    results = [put(broker, BOX) for _ in range(100)]
    broker.ack(reader.entries)
    assert all(result.done() for result in results)
    await put(broker, "ui/1/away")
    statistics = broker.statistics()
    assert (statistics.elided, statistics.written) == (100, 1)


async def test_not_confirmed_is_written_after_the_delay(broker: EmbeddedBroker) -> None:
    reader = await reading(broker)
    assert (await put(broker, BOX)).refused == {}
    assert broker.statistics().written == 1
    broker.ack(reader.entries)
    await until(lambda: broker.statistics().commits == 2)  # the row's removal, within half a second


async def test_only_the_absent_recipient_s_row_is_written(broker: EmbeddedBroker) -> None:
    reader = await reading(broker)
    result = put(broker, BOX, "ui/1/away")
    broker.ack(reader.entries)
    await result
    statistics = broker.statistics()
    assert (statistics.elided, statistics.written) == (1, 1)


async def test_a_sender_s_own_id_always_goes_into_a_commit(broker: EmbeddedBroker) -> None:
    reader = await reading(broker)
    result = put(broker, BOX, key="mine")
    broker.ack(reader.entries)
    assert not result.done()
    assert (await result).refused == {}
    assert broker.statistics().commits == 1


def confirm_in_the_socket(new_loop: Callable[[], asyncio.AbstractEventLoop], path: Path, *, deferred: bool) -> int:
    """The loop is busy for longer than the delay while the confirmation comes in; how many rows were elided."""

    async def main() -> int:
        broker = EmbeddedBroker(f"embedded://{path}/", SystemClock(), options=EmbeddedOptions(commit_delay=0.004))
        await broker.open()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader = await reading(broker)
        loop = asyncio.get_running_loop()

        def confirm() -> None:
            ours.recv(100)
            if deferred:  # a gateway may collect what a turn brought
                loop.call_soon(broker.ack, list(reader.entries))
            else:
                broker.ack(reader.entries)

        loop.add_reader(ours, confirm)
        result = put(broker, BOX)
        end = time.perf_counter() + 0.02
        await asyncio.sleep(0)
        while time.perf_counter() < end:  # the first half of the delay is over …
            pass
        for _ in range(3):
            await asyncio.sleep(0)
        theirs.send(b"confirmed")
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:  # … then the second, and the confirmation has come meanwhile
            pass
        await result
        loop.remove_reader(ours)
        elided = broker.statistics().elided
        ours.close()
        theirs.close()
        await broker.close()
        return elided

    loop = new_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_late_timer_gives_the_socket_one_poll_more(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path, *, deferred: bool
) -> None:
    assert confirm_in_the_socket(new_loop, tmp_path, deferred=deferred) == 1


async def test_rows_are_not_written_twice_nor_kept_in_memory(broker: EmbeddedBroker) -> None:
    await asyncio.gather(*[put(broker, f"ui/1/{number % 100}") for number in range(2000)])
    statistics = broker.statistics()
    assert (statistics.written, statistics.loaded, statistics.bytes_in_memory) == (2000, 0, 0)
