"""From a mailbox to a session: the ack modes, windows, slow clients, what goes back and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smart_router.app import SmartRouter
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE, BOB = "ui/456/alice", "ui/456/bob"


class Room:
    """A bench with a sender and `ui` as the test wants it."""

    def __init__(self, bench: Bench, sender: Client) -> None:
        self.bench = bench
        self.sender = sender

    def say(self, *numbers: Any, to: str = ALICE) -> None:
        for number in numbers:
            self.sender.tell("talk", message(number, to=to))

    @property
    def in_flight(self) -> int:
        return self.bench.broker.statistics().in_flight


@pytest.fixture
async def room(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    policies: dict[str, Any] = getattr(request, "param", {})
    async with running(talking(**policies)) as bench:
        yield Room(bench, await bench.join("daemon/s"))


def policies(**policies: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("room", [policies], indirect=True, ids=["+".join(policies)])


# away and back


async def test_what_waits_is_delivered_in_order_on_return(room: Room) -> None:
    room.say(*range(300))
    alice = await room.bench.join(ALICE)
    while len(alice.deliveries) < 300:
        before = len(alice.deliveries)
        alice.pong()
        assert len(alice.deliveries) > before
    assert alice.numbers == list(range(300))
    assert not any("redelivered" in got.message for got in alice.deliveries)


async def test_order_over_a_restart(tmp_path: Path) -> None:
    async with running(talking(), tmp_path) as bench:
        sender = await bench.join("daemon/s")
        for number in range(50):
            await sender.asked("talk", message(number, to=ALICE))
        restarted = await bench.again()
    alice = await restarted.join(ALICE)
    await until(lambda: len(alice.deliveries) == 50)
    assert alice.numbers == list(range(50))
    assert all(got.message["redelivered"] is True for got in alice.deliveries)
    alice.pong()
    await restarted.close()


async def test_an_expired_message_is_not_delivered(room: Room) -> None:
    room.sender.tell("talk", {**message(1, to=ALICE), "options": {"ttl": 10}})
    room.say(2)
    room.bench.pass_time(11)
    alice = await room.bench.join(ALICE)
    assert alice.numbers == [2]
    [letter] = await room.bench.dead_letters(1)
    assert (letter.state, letter.reason) == ("expired", "ttl")


# sent


@policies(ack="sent")
async def test_sent_is_confirmed_when_written(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(*range(500))
    while len(alice.deliveries) < 500 or room.in_flight:
        alice.flush()
        await asyncio.sleep(0)
    assert alice.numbers == list(range(500))
    assert room.in_flight == 0
    assert room.bench.delivery.statistics().confirmed == 500
    alice.cut()
    assert room.bench.waiting(ALICE) == 0


@policies(ack="sent", window=2000)
async def test_sent_stops_when_the_transport_is_full(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    alice.handler.writable(False)
    room.say(*range(1000))
    assert alice.numbers == []
    alice.handler.writable(True)
    assert alice.numbers == list(range(1000))


# received


async def test_received_is_confirmed_by_a_pong_behind_it(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.ping()
    room.say(3)
    alice.pong()
    assert room.in_flight == 1
    alice.pong()
    assert room.in_flight == 0
    assert alice.handler.mark() == 0


async def test_what_was_not_confirmed_goes_to_the_next_session_in_order(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.pong()
    room.say(3, 4)
    alice.cut()
    room.say(5)
    assert room.bench.waiting(ALICE) == 3
    again = await room.bench.join(ALICE)
    assert again.numbers == [3, 4, 5]
    assert [got.message.get("redelivered") for got in again.deliveries] == [True, True, None]
    assert [got.message["id"] for got in again.deliveries[:2]] == [got.message["id"] for got in alice.deliveries[2:]]


async def test_a_mark_that_was_never_written_confirms_no_more_than_there_is(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.handler.confirm(10**9)
    assert room.in_flight == 0
    room.say(2)
    assert room.in_flight == 1
    alice.handler.confirm(1)
    alice.handler.confirm(0)
    alice.handler.confirm(-5)
    assert room.in_flight == 1
    alice.handler.confirm(2)
    assert room.in_flight == 0


@policies(window=10)
async def test_the_window_in_messages(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(*range(25))
    assert alice.numbers == list(range(10))
    assert room.bench.waiting(ALICE) == 15
    alice.pong()
    assert alice.numbers == list(range(20))
    alice.pong()
    alice.pong()
    assert alice.numbers == list(range(25))
    assert room.in_flight == 0


@policies(window_bytes=4096, max_message_size=4096)
async def test_the_window_in_bytes(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(*("x" * 1000 for _ in range(8)))
    first = len(alice.deliveries)
    assert first == 4
    alice.pong()
    assert len(alice.deliveries) == 8


@policies(window_bytes=4096, max_message_size=4096)
async def test_attachments_count(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    placeholder = {"_placeholder": True, "num": 0}
    for _ in range(8):
        room.sender.tell("talk", message(placeholder, to=ALICE), attachments=(b"x" * 1000,))
    assert len(alice.deliveries) == 4
    alice.pong()
    assert len(alice.deliveries) == 8
    alice.pong()
    [session] = room.bench.sessions.of_actor(ALICE)
    assert session.bytes == 0


@policies(window=1)
async def test_one_by_one(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2, 3)
    for number in (1, 2, 3):
        assert alice.numbers == list(range(1, number + 1))
        alice.pong()


async def test_a_full_transport_falls_back_to_its_mailbox(room: Room) -> None:
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    alice.handler.writable(False)
    room.say(1, 2)
    room.say(3, to=BOB)
    assert (alice.numbers, bob.numbers) == ([], [3])
    alice.handler.writable(True)
    assert alice.numbers == [1, 2]


async def test_a_ping_unanswered_for_too_long_stops_the_giving(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.ping()
    room.bench.pass_time(4.9)
    room.say(2)
    assert alice.numbers == [1, 2]
    room.bench.pass_time(0.25)
    room.say(3, 4)
    assert alice.numbers == [1, 2]
    assert room.bench.waiting(ALICE) == 2
    alice.pong()
    assert alice.numbers == [1, 2, 3, 4]
    alice.pong()
    assert room.in_flight == 0


@policies(mailbox="actor+endpoint")
async def test_one_that_is_late_takes_nothing_from_the_others(room: Room) -> None:
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    room.say(1, 2, to="ui/456")
    alice.ping()
    room.bench.pass_time(5.5)
    room.say(*range(3, 9), to="ui/456")
    assert len(alice.deliveries) == 1
    assert len(bob.deliveries) == 7


async def test_a_session_that_waits_is_not_a_way_around_the_limits(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    [session] = room.bench.sessions.of_actor(ALICE)
    room.say(*range(1000))
    assert session.in_flight == session.window == len(alice.deliveries) == 128
    assert room.bench.waiting(ALICE) == 872


# a shared mailbox


@policies(mailbox="endpoint")
async def test_sessions_of_a_shared_mailbox_take_turns(room: Room) -> None:
    room.say("before", to="ui/456")
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    alice.pong()
    room.say(1, 2, 3, 4, to="ui/456")
    assert sorted(alice.numbers[1:] + bob.numbers) == [1, 2, 3, 4]
    assert len(bob.numbers) == 2
    assert alice.numbers[1:] == sorted(alice.numbers[1:])


@policies(mailbox="endpoint")
async def test_least_in_flight_first(room: Room) -> None:
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    room.say(1, 2, to="ui/456")
    alice.pong()
    assert len(alice.numbers) == len(bob.numbers) == 1
    room.say(3, to="ui/456")
    assert len(alice.numbers) == 2


@policies(mailbox="endpoint", window=2)
async def test_who_leaves_gives_back_to_the_others(room: Room) -> None:
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    room.say(1, 2, 3, 4, 5, 6, to="ui/456")
    alice.cut()
    assert len(bob.deliveries) == 2
    bob.pong()
    bob.pong()
    bob.pong()
    assert sorted(bob.numbers) == sorted({1, 2, 3, 4, 5, 6})
    assert room.in_flight == 0


@policies(mailbox="endpoint", deliver="primary")
async def test_a_shared_mailbox_may_have_a_primary(room: Room) -> None:
    alice, bob = await room.bench.join(ALICE), await room.bench.join(BOB)
    room.say(1, 2, to="ui/456")
    assert (alice.numbers, bob.numbers) == ([], [1, 2])
    bob.cut()
    assert alice.numbers == [1, 2]


@policies(mailbox="actor+endpoint")
async def test_both_mailboxes(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, to="ui/456")
    room.say(2)
    assert alice.numbers == [1, 2]
    alice.pong()
    assert room.in_flight == 0


# who may read


def app_with_readers() -> SmartRouter:
    app = talking(access={"read": 'type != "talk" || from == "daemon/s"'}, window=2)
    return app


async def test_what_a_recipient_may_not_read_ends_and_holds_up_nothing() -> None:
    async with running(app_with_readers()) as bench:
        sender, other = await bench.join("daemon/s"), await bench.join("daemon/t")
        for number in range(5):
            other.tell("talk", message(number, to=ALICE))
        sender.tell("talk", message("good", to=ALICE))
        alice = await bench.join(ALICE)
        await until(lambda: alice.deliveries)
        assert alice.numbers == ["good"]
        letters = await bench.dead_letters(5)
        assert {(letter.state, letter.reason) for letter in letters} == {("refused", "access")}
        alice.pong()
        assert bench.broker.statistics().in_flight == 0


async def test_statistics(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.pong()
    room.say(3)
    alice.cut()
    again = await room.bench.join(ALICE)
    again.pong()
    statistics = room.bench.delivery.statistics()
    assert (statistics.sessions, statistics.held) == (2, 2)
    assert (statistics.delivered, statistics.confirmed) == (4, 3)
    assert (statistics.redelivered, statistics.given_back) == (1, 1)
