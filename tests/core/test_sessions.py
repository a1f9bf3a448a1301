"""Several sessions of one actor: the newest, what older ones still hold, and who takes over when it goes."""

from __future__ import annotations

from tests.core.test_attempts import ack_of
from tests.core.test_delivery import ALICE, Room, policies, room

__all__ = ["room"]


async def test_the_newest_gets_all(room: Room) -> None:
    older, newer = await room.bench.join(ALICE), await room.bench.join(ALICE)
    room.say(1, 2)
    assert (older.numbers, newer.numbers) == ([], [1, 2])


async def test_the_older_is_pinged_at_once_and_confirms_in_time(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1, 2)
    newer = await room.bench.join(ALICE)
    assert older.pinged == 2
    assert newer.names == ["hello"]
    room.say(3)
    assert newer.numbers == []
    older.pong()
    assert newer.numbers == [3]
    assert room.bench.delivery.statistics().redelivered == 0


async def test_what_the_older_does_not_confirm_in_a_second_goes_first(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1, 2)
    newer = await room.bench.join(ALICE)
    room.say(3)
    room.bench.pass_time(0.75)
    assert newer.numbers == []
    room.bench.pass_time(0.5)
    assert newer.numbers == [1, 2, 3]
    assert [got.message.get("redelivered") for got in newer.deliveries] == [True, True, None]
    older.pong()
    assert room.in_flight == 3
    newer.pong()
    assert room.in_flight == 0


async def test_an_older_one_that_holds_nothing_is_not_waited_for(room: Room) -> None:
    older = await room.bench.join(ALICE)
    newer = await room.bench.join(ALICE)
    room.say(1)
    assert newer.numbers == [1]
    assert older.pinged is None


async def test_an_older_one_that_is_cut_gives_back_at_once(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    room.say(2)
    older.cut()
    assert newer.numbers == [1, 2]


async def test_a_ping_that_was_on_its_way_proves_only_what_was_before_it(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    older.ping()
    room.say(2)
    newer = await room.bench.join(ALICE)
    older.pong()
    assert newer.numbers == []
    older.pong()
    room.say(3)
    assert newer.numbers == [3]


async def test_three(room: Room) -> None:
    first = await room.bench.join(ALICE)
    room.say(1)
    second = await room.bench.join(ALICE)
    third = await room.bench.join(ALICE)
    room.say(2)
    room.bench.pass_time(1.25)
    assert (second.numbers, third.numbers) == ([], [1, 2])
    third.cut()
    assert second.numbers == [1, 2]
    second.cut()
    assert first.numbers == [1, 1, 2]


async def test_the_newest_goes_while_it_waits(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    room.say(2)
    newer.cut()
    assert older.numbers == [1, 2]
    room.bench.pass_time(2)
    older.pong()
    older.pong()
    assert room.in_flight == 0


async def test_when_the_newest_goes_an_older_one_takes_over(room: Room) -> None:
    older, newer = await room.bench.join(ALICE), await room.bench.join(ALICE)
    room.say(1, 2)
    newer.cut()
    assert older.numbers == [1, 2]
    assert older.deliveries[0].message["redelivered"] is True
    room.say(3)
    older.pong()
    assert older.numbers == [1, 2, 3]
    assert room.in_flight == 0


@policies(ack="client")
async def test_in_client_mode_one_that_answers_the_ping_keeps_what_it_holds(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    room.say(2)
    older.pong()
    assert newer.numbers == [2]
    room.bench.pass_time(2)
    assert newer.numbers == [2]
    older.answer(ack_of(older))
    newer.answer(ack_of(newer))
    assert room.in_flight == room.bench.waiting(ALICE) == 0


@policies(ack="client", delivery_timeout=5)
async def test_in_client_mode_what_it_keeps_is_tried_again_on_the_newer(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    older.pong()
    room.bench.pass_time(6.5)
    assert (older.numbers, newer.numbers) == ([1], [1])


@policies(ack="client")
async def test_in_client_mode_one_that_is_silent_gives_back(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    room.say(2)
    room.bench.pass_time(1.25)
    assert newer.numbers == [1, 2]
    older.answer(ack_of(older))
    assert room.in_flight == 2


@policies(deliver="any")
async def test_any_takes_turns(room: Room) -> None:
    one, two = await room.bench.join(ALICE), await room.bench.join(ALICE)
    room.say(1, 2, 3, 4)
    assert sorted(one.numbers + two.numbers) == [1, 2, 3, 4]
    assert len(one.numbers) == 2
    one.cut()
    assert sorted(two.numbers) == [1, 2, 3, 4]


@policies(ack="sent")
async def test_in_sent_mode_nothing_is_waited_for(room: Room) -> None:
    older = await room.bench.join(ALICE)
    room.say(1)
    newer = await room.bench.join(ALICE)
    assert not older.pinged
    room.say(2)
    assert (older.numbers, newer.numbers) == ([1], [2])


async def test_sessions_are_listed(room: Room) -> None:
    older, newer = await room.bench.join(ALICE), await room.bench.join(ALICE)
    room.say(1)
    infos = [session.info() for session in room.bench.sessions.of_actor(ALICE)]
    assert [info.id for info in infos] == [older.id, newer.id]
    assert [(info.in_flight, info.written, info.parked) for info in infos] == [(0, 0, False), (1, 1, False)]
    assert {(info.actor, info.endpoint, info.since) for info in infos} == {(ALICE, "ui", room.bench.clock.wall)}
    older.cut()
    newer.cut()
    assert not room.bench.sessions.of_actor(ALICE)
    assert len(room.bench.sessions) == 1
