"""Recovery: what was promised with `recovered: true`, and when it is not promised."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE = "ui/456/alice"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(talking(recovery=True, recovery_window=60)) as bench:
        yield bench


@pytest.fixture
async def sender(bench: Bench) -> Client:
    return await bench.join("daemon/s")


@pytest.fixture
async def alice(bench: Bench) -> Client:
    return await bench.join(ALICE)


def say(sender: Client, *numbers: int, to: Any = ALICE) -> None:
    for number in numbers:
        sender.tell("talk", message(number, to=to))


async def back(bench: Bench, lost: Client, offset: str | None = None, actor: str = ALICE) -> Client:
    """The same client again, on a new connection."""
    return await bench.join(actor, lost.pid, offset)


async def test_goes_on_after_the_offset(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1, 2, 3)
    alice.cut()
    say(sender, 4)
    assert bench.waiting(ALICE) == 1
    again = await back(bench, alice, alice.deliveries[1].offset)
    assert again.hellos == [("received", True)]
    assert (again.id, again.pid) == (alice.id, alice.pid)
    assert again.numbers == [3, 4]
    assert again.names[0] == "hello"
    assert [got.message.get("redelivered") for got in again.deliveries] == [True, None]
    again.pong()
    assert bench.broker.statistics().in_flight == bench.broker.statistics().waiting == 0
    assert bench.delivery.statistics().recovered == 1


@pytest.mark.parametrize("offset", [None, "", "0", "x", "-1", "٣"])
async def test_without_a_usable_offset_all_unconfirmed_comes_again(
    bench: Bench, sender: Client, alice: Client, offset: str | None
) -> None:
    say(sender, 1, 2)
    alice.cut()
    again = await back(bench, alice, offset)
    assert again.hellos == [("received", True)]
    assert again.numbers == [1, 2]


async def test_what_was_confirmed_before_does_not_come_again(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1)
    alice.pong()
    say(sender, 2)
    alice.cut()
    again = await back(bench, alice, alice.deliveries[0].offset)
    assert again.numbers == [2]


async def test_twice_in_a_row(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1, 2)
    alice.cut()
    second = await back(bench, alice, alice.deliveries[0].offset)
    say(sender, 3)
    second.cut()
    third = await back(bench, second, second.deliveries[0].offset)
    assert third.hellos == [("received", True)]
    assert third.numbers == [3]
    assert third.deliveries[0].message["redelivered"] is True


async def test_before_the_router_noticed_the_loss(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1, 2)
    again = await back(bench, alice, alice.deliveries[0].offset)
    assert again.hellos == [("received", True)]
    assert again.numbers == [2]
    assert alice.close_reason is not None
    assert alice.close_reason.comes_back
    say(sender, 3)
    assert again.numbers == [2, 3]
    assert alice.numbers == [1, 2]
    again.pong()
    assert bench.broker.statistics().in_flight == 0


async def test_a_client_that_says_goodbye_is_not_recovered(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1)
    alice.cut(by_client=True)
    again = await back(bench, alice, alice.deliveries[0].offset)
    assert again.hellos == [("received", False)]
    assert again.numbers == [1]
    assert again.pid != alice.pid
    assert bench.delivery.statistics().not_recovered == 1


async def test_after_the_window(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1)
    alice.cut()
    bench.pass_time(59)
    assert bench.waiting(ALICE) == 0
    bench.pass_time(2)
    assert bench.waiting(ALICE) == 1
    again = await back(bench, alice, alice.deliveries[0].offset)
    assert again.hellos == [("received", False)]
    assert again.numbers == [1]


async def test_a_pid_that_never_was(bench: Bench) -> None:
    client = await bench.join(ALICE, "made-up", "7")
    assert client.hellos == [("received", False)]
    assert client.pid not in (None, "made-up")


async def test_a_newer_session_without_pid_gets_it_all(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1, 2)
    alice.cut()
    say(sender, 3)
    newer = await bench.join(ALICE)
    assert newer.hellos == [("received", False)]
    assert newer.numbers == [1, 2, 3]
    say(sender, 4)
    assert newer.numbers == [1, 2, 3, 4]
    newer.pong()
    assert bench.broker.statistics().in_flight == 0
    third = await back(bench, alice, alice.deliveries[0].offset)
    assert third.hellos == [("received", False)]
    assert bench.delivery.statistics().sessions == 3


async def test_not_after_another_session_was_the_newest(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1)
    alice.pong()
    newer = await bench.join(ALICE)
    say(sender, 2)
    newer.cut(by_client=True)
    again = await back(bench, alice, alice.deliveries[0].offset)
    assert again.hellos == [("received", False)]
    alice.cut()
    assert again.numbers == [2]


async def test_not_when_something_was_dropped_meanwhile() -> None:
    async with running(talking(recovery=True, max_messages=2)) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        say(sender, 1)
        alice.cut()
        say(sender, 2, 3, 4)
        again = await back(bench, alice, alice.deliveries[0].offset)
        assert again.hellos == [("received", False)]
        assert again.numbers == [1, 3, 4]
        assert again.deliveries[0].message["redelivered"] is True


async def test_not_when_the_mailbox_was_purged(bench: Bench, sender: Client, alice: Client) -> None:
    alice.cut()
    say(sender, 1)
    await bench.broker.purge(ALICE)
    again = await back(bench, alice)
    assert again.hellos == [("received", False)]


async def test_off_by_default() -> None:
    async with running(talking()) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        say(sender, 1)
        assert alice.pid is None
        assert alice.deliveries[0].offset is None
        alice.cut()
        assert bench.waiting(ALICE) == 1


async def test_another_namespace_does_not_recover(bench: Bench, alice: Client) -> None:
    bench.endpoints.register("ui", "457")
    alice.cut()
    other = await bench.join("ui/457/alice", alice.pid, None)
    assert other.hellos == [("received", False)]
    assert bench.sessions.of_actor(ALICE)


async def test_another_actor_does_not_recover(bench: Bench, alice: Client) -> None:
    alice.cut()
    other = await back(bench, alice, actor="ui/456/bob")
    assert other.hellos == [("received", False)]
    assert bench.sessions.of_actor("ui/456/bob")


async def test_a_pid_alone_says_who_it_is(bench: Bench, sender: Client, alice: Client) -> None:
    say(sender, 1)
    alice.cut()
    again = bench.client("/ui/456")
    again.open(None, alice.pid, None)
    await until(lambda: again.hellos)
    assert again.numbers == [1]
    assert again.names == ["hello", "talk"]


async def test_what_a_shared_mailbox_had_in_flight_goes_back_at_once() -> None:
    async with running(talking(recovery=True, mailbox="actor+endpoint")) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        bob = await bench.join("ui/456/bob")
        say(sender, 1, 2, to="ui/456")
        say(sender, 3)
        shared, [own] = [n for n in alice.numbers if n != 3], [got for got in alice.deliveries if got.n == 3]
        assert sorted(shared + bob.numbers) == [1, 2]
        alice.cut()
        assert sorted(bob.numbers) == [1, 2]
        assert bob.deliveries[-1].message["redelivered"] is True
        say(sender, 4, to="ui/456")
        again = await back(bench, alice, own.offset)
        assert again.hellos == [("received", True)]
        assert again.numbers == []
        bob.pong()
        say(sender, 5, 6, to="ui/456")
        assert sorted(again.numbers + bob.numbers) == [1, 2, 4, 5, 6]
        assert len(again.numbers) == 1


async def test_client_mode_recovers_without_offsets() -> None:
    async with running(talking(recovery=True, ack="client")) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        say(sender, 1, 2)
        assert alice.deliveries[0].offset is None
        assert alice.deliveries[0].ack_id is not None
        alice.answer(alice.deliveries[0].ack_id)
        alice.cut()
        again = await back(bench, alice)
        assert again.hellos == [("client", True)]
        assert again.numbers == [2]
        [got] = again.deliveries
        assert got.ack_id is not None
        again.answer(got.ack_id)
        assert bench.broker.statistics().in_flight == bench.waiting(ALICE) == 0


async def test_parked_sessions_are_seen(bench: Bench, alice: Client) -> None:
    alice.cut()
    [session] = bench.sessions.of_actor(ALICE)
    assert session.info().parked
    again = await back(bench, alice)
    assert not session.info().parked
    assert again.id == session.info().id
