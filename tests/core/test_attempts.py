"""`ack = "client"`: the application's own answer, attempts, delays, dead letters."""

from __future__ import annotations

from typing import Any

import pytest

from smart_router.core.attempts import MAX_DELIVERIES
from smart_router.errors import StorageFull
from tests.core.test_delivery import ALICE, Room, policies, room
from tests.fakes.client import Client
from tests.fakes.clock import until

__all__ = ["room"]

CLIENT: dict[str, Any] = {"ack": "client"}


def ack_of(client: Client, index: int = -1) -> int:
    ack_id = client.deliveries[index].ack_id
    assert ack_id is not None
    return ack_id


@policies(**CLIENT)
async def test_the_application_confirms(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.pong()
    assert room.in_flight == 2
    alice.answer(ack_of(alice, 1))
    alice.answer(ack_of(alice, 0), {"anything": True}, 7)
    assert room.in_flight == 0
    assert room.bench.delivery.statistics().confirmed == 2


@pytest.mark.parametrize("answer", [None, "nack", ["nack"], {"nacked": 1}, {}, False, {"ok": {"nack": "x"}}], ids=repr)
@policies(**CLIENT)
async def test_any_other_answer_confirms(room: Room, answer: Any) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.answer(ack_of(alice), answer)
    assert room.in_flight == 0
    room.bench.pass_time(60)
    assert alice.numbers == [1]


@pytest.mark.parametrize("reason", ["busy", "", None, 7, {"a": 1}], ids=repr)
@policies(**CLIENT)
async def test_a_nack_is_an_attempt(room: Room, reason: Any) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.answer(ack_of(alice), {"nack": reason})
    assert room.in_flight == 0
    room.bench.pass_time(0.75)
    assert alice.numbers == [1]
    room.bench.pass_time(0.5)
    assert alice.numbers == [1, 1]
    assert alice.deliveries[1].message["redelivered"] is True
    assert room.bench.delivery.statistics().refused == 1


@policies(ack="client", retry={"attempts": 4, "first_delay": 1, "multiplier": 2, "max_delay": 3})
async def test_delays_grow_and_the_last_attempt_ends_it(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    for wait in (1, 2, 3):
        alice.nack(ack_of(alice), f"reason {wait}")
        seen = len(alice.deliveries)
        room.bench.pass_time(wait - 0.25)
        assert len(alice.deliveries) == seen
        room.bench.pass_time(0.5)
        assert len(alice.deliveries) == seen + 1
    alice.nack(ack_of(alice), "the last reason")
    room.bench.pass_time(60)
    assert len(alice.deliveries) == 4
    [letter] = await room.bench.dead_letters(1)
    assert (letter.state, letter.reason) == ("failed", "attempts")
    assert (letter.attempts, letter.deliveries) == (4, 4)
    assert "the last reason" in letter.detail
    assert letter.body == alice.deliveries[0].body
    assert room.in_flight == room.bench.waiting(ALICE) == 0


@policies(ack="client", delivery_timeout=5, retry={"attempts": 2})
async def test_no_answer_in_time_is_an_attempt(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    first = ack_of(alice)
    room.bench.pass_time(4.75)
    assert room.in_flight == 1
    room.bench.pass_time(0.5)
    assert room.in_flight == 0
    room.bench.pass_time(1)
    assert alice.numbers == [1, 1]
    alice.answer(first)  # too late: it counts for nothing
    assert room.in_flight == 1
    assert room.bench.delivery.statistics().unknown_answers == 1
    room.bench.pass_time(6)
    [letter] = await room.bench.dead_letters(1)
    assert (letter.reason, letter.attempts) == ("attempts", 2)
    assert room.bench.delivery.statistics().timed_out == 2


@policies(ack="client", retry={"attempts": 1})
async def test_one_attempt_means_one(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.nack(ack_of(alice))
    assert await room.bench.dead_letters(1)
    assert room.bench.waiting(ALICE) == 0


@policies(ack="client", retry={"attempts": 1})
async def test_what_has_ended_is_not_delivered_while_the_store_is_away(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(letters: object) -> None:
        raise StorageFull("no room")

    alice = await room.bench.join(ALICE)
    with monkeypatch.context() as patch:
        patch.setattr(room.bench.store, "add_dead_letters", full)
        room.say(1)
        alice.nack(ack_of(alice))
        alice.cut()
        alice = await room.bench.join(ALICE)
        room.say(2)
        assert alice.numbers == [2]
        assert not await room.bench.dead_letters()
    [letter] = await room.bench.dead_letters(1)
    assert letter.attempts == 1
    alice.answer(ack_of(alice))
    await until(lambda: room.in_flight == 0)
    assert room.bench.waiting(ALICE) == 0


@policies(ack="client", retry={"first_delay": 0})
async def test_without_delay_it_comes_at_once(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.nack(ack_of(alice, 0))
    assert alice.numbers == [1, 2, 1]


@policies(**CLIENT)
async def test_later_ones_go_on_while_one_waits(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.nack(ack_of(alice))
    room.say(2, 3)
    assert alice.numbers == [1, 2, 3]
    room.bench.pass_time(1.25)
    assert alice.numbers == [1, 2, 3, 1]


@policies(ack="client", window=1)
async def test_a_window_of_one_waits_for_the_retry_too(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2, 3)
    alice.nack(ack_of(alice))
    room.bench.pass_time(0.75)
    assert alice.numbers == [1]
    room.bench.pass_time(0.5)
    assert alice.numbers == [1, 1]
    room.bench.pass_time(5.25)
    assert alice.numbers == [1, 1]
    room.bench.pass_time(2)
    assert alice.numbers == [1, 1, 1]
    alice.nack(ack_of(alice))
    await until(lambda: alice.numbers[-1] == 2)
    assert alice.numbers == [1, 1, 1, 2]
    alice.answer(ack_of(alice))
    assert alice.numbers[-1] == 3
    alice.answer(ack_of(alice))
    assert len(await room.bench.dead_letters(1)) == 1
    await until(lambda: room.in_flight == 0)


@policies(ack="client", window=1)
async def test_a_window_of_one_and_a_session_that_goes_while_it_waits(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.nack(ack_of(alice))
    alice.cut()
    again = await room.bench.join(ALICE)
    assert again.numbers == [1]
    room.bench.pass_time(2)
    again.answer(ack_of(again))
    again.answer(ack_of(again))
    assert again.numbers == [1, 2]
    assert room.in_flight == room.bench.waiting(ALICE) == 0


@policies(ack="client", window=1)
async def test_a_window_of_one_and_a_newer_session_while_it_waits(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2)
    alice.nack(ack_of(alice))
    newer = await room.bench.join(ALICE)
    room.bench.pass_time(1.25)
    assert newer.numbers == [1]
    newer.answer(ack_of(newer))
    assert newer.numbers == [1, 2]


@policies(**CLIENT)
async def test_a_lost_session_is_no_attempt(room: Room) -> None:
    room.say(1)
    for _ in range(5):
        alice = await room.bench.join(ALICE)
        assert alice.numbers == [1]
        alice.cut()
    assert not await room.bench.dead_letters()
    assert room.bench.waiting(ALICE) == 1


@policies(**CLIENT)
async def test_what_kills_its_readers_ends_after_twenty(room: Room) -> None:
    room.say(1, 2)
    for _ in range(MAX_DELIVERIES):
        alice = await room.bench.join(ALICE)
        assert alice.numbers[0] == 1
        alice.answer(ack_of(alice, 1)) if len(alice.deliveries) > 1 else None
        alice.cut()
    [letter] = await room.bench.dead_letters(1)
    assert (letter.state, letter.reason, letter.deliveries) == ("failed", "deliveries", MAX_DELIVERIES)
    assert letter.attempts == 0
    alice = await room.bench.join(ALICE)
    assert alice.numbers == []


async def test_the_guard_is_for_client_mode_only(room: Room) -> None:
    room.say(1)
    for _ in range(MAX_DELIVERIES + 5):
        alice = await room.bench.join(ALICE)
        assert alice.numbers == [1]
        alice.cut()


@policies(ack="client", delivery_timeout=5)
async def test_an_answer_of_another_number_is_counted(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.answer(99)
    alice.answer(ack_of(alice))
    alice.answer(ack_of(alice))
    assert room.bench.delivery.statistics().unknown_answers == 2
    assert room.in_flight == 0


async def test_an_answer_nobody_asked_for(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1)
    alice.answer(1)
    assert room.in_flight == 1
    assert room.bench.delivery.statistics().unknown_answers == 1


@policies(ack="client", window=2)
async def test_the_window_counts_what_is_not_answered(room: Room) -> None:
    alice = await room.bench.join(ALICE)
    room.say(1, 2, 3)
    alice.pong()
    assert alice.numbers == [1, 2]
    alice.answer(ack_of(alice, 0))
    assert alice.numbers == [1, 2, 3]
