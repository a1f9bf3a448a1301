"""Bad ends: in the store before the broker forgets, counted, told as events; and the events around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from smart_router.app import SmartRouter
from smart_router.brokers.base import End, Entry, MailboxPolicy
from smart_router.core.ends import Ends
from smart_router.core.events import EVENTS, Events
from smart_router.core.health import Health
from smart_router.errors import Refused, StorageFull
from smart_router.message import Message
from smart_router.stores.base import DeadLetter
from smart_router.stores.open import open_store
from tests.fakes.bench import message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import FakeClock, until

ALICE = "ui/456/alice"


class Bench:
    """Ends alone, on a real store whose writing can be taken away."""

    def __init__(self, ends: Ends, store: Any, health: Health) -> None:
        self.ends = ends
        self.store = store
        self.health = health
        self.forgotten: list[str] = []
        self.away = False
        self._add = store.add_dead_letters
        store.add_dead_letters = self._write
        ends.forget = self._forget

    async def _write(self, letters: Sequence[DeadLetter]) -> None:
        if self.away:
            raise StorageFull("no room")
        await self._add(letters)

    def _forget(self, entries: Sequence[Entry]) -> None:
        self.forgotten += [entry.message.id for entry in entries]

    def end(self, number: int) -> None:
        entry = Entry(Message(f"m{number}", "daemon/s", 1, "talk", b"{}"), ALICE, MailboxPolicy())
        self.ends.end(entry, End.FAILED, "attempts", "detail")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    clock = FakeClock()
    store = await open_store("sqlite:///:memory:", Path())
    health = Health(clock.wall_ms)
    ends = Ends(store, Events(clock.wall_ms), health, clock)
    ends.start()
    yield Bench(ends, store, health)
    await ends.close()
    await store.close()


async def test_the_broker_forgets_when_the_store_has_it(bench: Bench) -> None:
    bench.end(1)
    assert bench.forgotten == []
    await until(lambda: bench.forgotten)
    assert bench.store.statistics().dead_letters == 1
    assert bench.ends.statistics().counts == {("failed", "attempts"): 1}


async def test_a_store_that_is_away_is_tried_again(bench: Bench) -> None:
    bench.away = True
    with capture_logs() as logs:
        bench.end(1)
        await until(lambda: logs)
    assert bench.forgotten == []
    assert bench.health.check()[0].level == "error"
    bench.end(2)
    bench.away = False
    await until(lambda: len(bench.forgotten) == 2)
    assert bench.forgotten == ["m1", "m2"]
    assert bench.store.statistics().dead_letters == 2


async def test_the_queue_is_bounded_and_what_does_not_fit_is_counted(bench: Bench) -> None:
    bench.away = True
    with capture_logs() as logs:
        bench.end(0)
        await until(lambda: logs)
        for number in range(1, 10_006):
            bench.end(number)
    assert bench.ends.statistics().queued == 10_000
    assert bench.ends.statistics().lost == 5
    assert bench.forgotten == ["m1", "m2", "m3", "m4", "m5"]
    assert bench.ends.statistics().counts == {("failed", "attempts"): 10_006}
    bench.away = False


# every bad end, from the outside


async def ended(app: SmartRouter, messages: list[dict[str, Any]]) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []
    for name in EVENTS:
        app.on(name, heard.append)
    async with running(app) as bench:
        sender = await bench.join("daemon/s")
        for each in messages:
            sender.tell("talk", each)
        bench.pass_time(20, step=5)
        letters = await bench.dead_letters(1)
        return [(letter.state, letter.reason) for letter in letters], heard


def options(**options: Any) -> dict[str, Any]:
    return {**message(1, to=ALICE), "options": options}


@pytest.mark.parametrize(
    ("policies", "messages", "end", "event"),
    [
        ({"max_messages": 1}, [options(), options()], ("dropped", "overflow"), "message.dropped"),
        (
            {"max_messages": 1, "overflow": "drop-newest"},
            [options(), options()],
            ("dropped", "overflow"),
            "message.dropped",
        ),
        ({}, [options(ttl=10)], ("expired", "ttl"), "message.expired"),
        ({}, [options(supersede="x"), options(supersede="x")], ("superseded", "superseded"), "message.dropped"),
    ],
)
async def test_bad_ends_of_waiting_messages(
    policies: dict[str, Any], messages: list[dict[str, Any]], end: tuple[str, str], event: str
) -> None:
    ends, heard = await ended(talking(**policies), messages)
    assert ends == [end]
    [told] = [each for each in heard if each["type"] == event]
    assert (told["actor_id"], told["state"], told["reason"]) == (ALICE, *end)
    assert isinstance(told["timestamp"], int)


# events


async def test_events_of_a_good_day() -> None:
    app = talking()
    heard: list[dict[str, Any]] = []
    for name in EVENTS:
        app.on(name, heard.append)
    async with running(app) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        answer = await sender.asked("talk", message(1, to=ALICE))
        alice.pong()
        alice.cut()
        await sender.asked("unknown", message(1))
    assert [each["type"] for each in heard] == [
        "session.registered",
        "session.registered",
        "message.queued",
        "message.routed",
        "message.acknowledged",
        "session.unregistered",
        "message.routing_error",
    ]
    queued, routed, acknowledged = heard[2:5]
    assert queued["message_id"] == routed["message_id"] == acknowledged["message_id"] == answer["id"]
    assert queued["actor_id"] == routed["actor_id"] == acknowledged["actor_id"] == ALICE
    assert routed["session_id"] == acknowledged["session_id"] == alice.id
    assert heard[-1]["code"] == "no_route"


async def test_events_of_the_end_of_attempts() -> None:
    app = talking(ack="client", retry={"attempts": 1})
    heard: list[dict[str, Any]] = []
    app.on("message.routing_failed", heard.append)
    async with running(app) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join(ALICE)
        await sender.asked("talk", message(1, to=ALICE))
        assert alice.deliveries[0].ack_id is not None
        alice.nack(alice.deliveries[0].ack_id)
    [event] = heard
    assert (event["state"], event["reason"]) == ("failed", "attempts")


async def test_a_handler_that_raises_disturbs_nothing() -> None:
    app = talking()
    heard: list[str] = []

    def broken(event: dict[str, Any]) -> None:
        raise RuntimeError("of the program's own")

    app.on("message.queued", broken)
    app.on("message.queued", lambda event: heard.append(event["message_id"]))
    with capture_logs() as logs:
        async with running(app) as bench:
            sender: Client = await bench.join("daemon/s")
            assert (await sender.asked("talk", message(1, to=ALICE)))["status"] == "queued"
    assert len(heard) == 1
    assert [entry["event"] for entry in logs] == ["event_handler_failed"]


def test_an_event_that_does_not_exist() -> None:
    with pytest.raises(Refused, match=r"message\.queued"):
        Events(lambda: 0).on("message.queud", print)


# health


def test_a_check_hands_out_once() -> None:
    clock = FakeClock()
    health = Health(clock.wall_ms, limit=3)
    assert [entry.level for entry in health.check()] == ["ok"]
    for number in range(5):
        health.warning(f"w{number}")
    health.error("e")
    assert [(entry.level, entry.message) for entry in health.check()] == [
        ("warning", "w3"),
        ("warning", "w4"),
        ("error", "e"),
    ]
    [ok] = health.check()
    assert (ok.level, ok.at) == ("ok", clock.wall)
