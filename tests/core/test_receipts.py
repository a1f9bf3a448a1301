"""Receipts: each asked-for state of a message comes to its sender per recipient, wherever and whenever that ends."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smart_router.app import SmartRouter
from smart_router.core.actions import Context
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

SENDER, ALICE, BOB = "daemon/s", "ui/456/alice", "ui/456/bob"
ALL = ["queued", "delivered", "read", "failed"]


def asking(number: Any, *receipts: str, to: Any = ALICE, **options: Any) -> dict[str, Any]:
    return {**message(number, to=to), "options": {"receipt": list(receipts), **options}}


def receipts(client: Client) -> list[dict[str, Any]]:
    return [got.message["payload"] for got in client.deliveries if got.type == "receipt"]


def told(client: Client) -> list[tuple[str, str, str]]:
    """(to, status, reason) of each receipt, in the order they came."""
    return [(each["to"], each["status"], each["reason"]) for each in receipts(client)]


def in_flight(bench: Bench, address: str) -> int:
    box = bench.broker.statistics_of(address)
    return box.in_flight if box is not None else 0


async def statuses(client: Client, *expected: str) -> None:
    await until(lambda: len(receipts(client)) >= len(expected))
    assert [status for _, status, _ in told(client)] == list(expected)


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with running(talking(**getattr(request, "param", {}))) as bench:
        yield bench


def policies(**policies: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bench", [policies], indirect=True, ids=["+".join(map(str, policies.items()))])


# good ends


async def test_queued_and_delivered_come_to_the_sender(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    answer = await sender.asked("talk", asking(1, "queued", "delivered", id="mine"))
    assert answer == {"id": answer["id"], "status": "queued"}
    await statuses(sender, "queued")
    alice.pong()
    await statuses(sender, "queued", "delivered")
    first = sender.deliveries[0].message
    assert first["from"] == "router"
    assert first["ids"] == {}
    assert first["metadata"] == {"type": "talk", "id": "mine"}
    assert first["payload"] == {
        "message": answer["id"], "to": ALICE, "status": "queued", "reason": "", "at": bench.clock.wall
    }  # fmt: skip


async def test_only_what_is_asked_for(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, "delivered", "delivered"))
    sender.tell("talk", message(2, to=ALICE))
    sender.tell("talk", asking(3, "failed", "read"))
    sender.tell("talk", asking(4, "queued"))
    alice.pong()
    await until(lambda: len(receipts(sender)) == 2)
    assert bench.receipts.statistics().told == 2
    assert {status for _, status, _ in told(sender)} == {"delivered", "queued"}
    assert alice.numbers == [1, 2, 3, 4]


async def test_one_for_each_recipient() -> None:
    app = talking()

    @app.any.on("both")
    def both(context: Context) -> None:
        context.publish([ALICE, BOB])
        context.publish(BOB)
        context.publish(BOB, "log")

    async with running(app) as bench:
        sender, bob = await bench.join(SENDER), await bench.join(BOB)
        sender.tell("both", asking(1, "delivered"))
        bob.pong()
        await until(lambda: len(receipts(sender)) == 3)
        base = bob.deliveries[0].message["id"]
        found = [
            (each["message"], got.message["metadata"]["type"])
            for each, got in zip(receipts(sender), sender.deliveries, strict=True)
        ]
        assert found == [(base, "both"), (f"{base}.1", "both"), (base, "log")]
        alice = await bench.join(ALICE)
        alice.pong()
        await until(lambda: len(receipts(sender)) == 4)
        assert receipts(sender)[3]["to"] == ALICE


@policies(ack="sent")
async def test_sent_is_delivered_when_it_is_written(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, *ALL))
    await statuses(sender, "queued", "delivered")
    assert alice.numbers == [1]
    assert bench.waiting(ALICE) == 0


@policies(ack="client", retry={"attempts": 2, "first_delay": 1})
async def test_client_mode_tells_of_the_answer_or_the_last_attempt(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    for number in (1, 2):
        sender.tell("talk", asking(number, "delivered", "failed"))
    first, second = (got.ack_id for got in alice.deliveries)
    assert first is not None
    assert second is not None
    alice.nack(second)
    bench.pass_time(0.5)
    assert receipts(sender) == []
    alice.answer(first)
    await until(lambda: len(receipts(sender)) == 1)
    bench.pass_time(1)
    await until(lambda: len(alice.deliveries) == 3)
    again = alice.deliveries[2].ack_id
    assert again is not None
    alice.nack(again)
    await until(lambda: len(receipts(sender)) == 2)
    assert told(sender) == [(ALICE, "delivered", ""), (ALICE, "failed", "attempts")]


async def test_the_sender_may_be_away(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, "delivered"))
    sender.cut()
    alice.pong()
    await until(lambda: bench.waiting(SENDER) == 1)
    again = await bench.join(SENDER)
    await statuses(again, "delivered")


async def test_no_receipts_of_receipts(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, *ALL))
    alice.pong()
    await statuses(sender, "queued", "delivered")
    sender.pong()
    await until(lambda: bench.broker.statistics().in_flight == 0)
    assert bench.receipts.statistics().told == 2


# bad ends


async def test_expired(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    sender.tell("talk", asking(1, "failed", ttl=2))
    bench.pass_time(3)
    await until(lambda: receipts(sender))
    assert told(sender) == [(ALICE, "expired", "ttl")]


@policies(max_messages=1)
async def test_dropped(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    for number in (1, 2):
        sender.tell("talk", asking(number, "failed"))
    await until(lambda: receipts(sender))
    assert told(sender) == [(ALICE, "dropped", "overflow")]


async def test_superseded_and_purged(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    for number in (1, 2):
        sender.tell("talk", asking(number, "failed", supersede="k"))
    await until(lambda: receipts(sender))
    await bench.broker.purge(ALICE)
    await until(lambda: len(receipts(sender)) == 2)
    assert told(sender) == [(ALICE, "superseded", "superseded"), (ALICE, "dropped", "purged")]


@policies(max_messages=1, overflow="refuse")
@pytest.mark.parametrize("acknowledged", [True, False])
async def test_refused_by_a_mailbox(bench: Bench, acknowledged: bool) -> None:
    sender = await bench.join(SENDER)
    sender.tell("talk", asking(1, "queued"))
    if acknowledged:
        answer = await sender.asked("talk", asking(2, "queued", "failed"))
        assert answer["error"]["code"] == "mailbox_full"
    else:
        sender.tell("talk", asking(2, "queued", "failed"))
        assert sender.codes == ["mailbox_full"]
    await until(lambda: len(receipts(sender)) == 2)
    assert told(sender) == [(ALICE, "queued", ""), (ALICE, "refused", "mailbox_full")]


async def test_a_route_that_raises_is_told_of() -> None:
    app = talking()

    @app.any.on("bad")
    def bad(context: Context) -> None:
        raise RuntimeError("no")

    async with running(app) as bench:
        sender = await bench.join(SENDER)
        sender.tell("bad", asking(1, "failed"))
        await until(lambda: receipts(sender))
        assert told(sender) == [("daemon", "failed", "route_error")]


# senders and their mailboxes


@pytest.fixture
def shared() -> SmartRouter:
    """Its actors share one mailbox, and have none of their own."""
    return talking(mailbox="endpoint")


async def test_on_an_endpoint_with_a_shared_mailbox_the_own_one_is_opened(shared: SmartRouter) -> None:
    async with running(shared) as bench:
        target, sender = await bench.join(SENDER), await bench.join(ALICE)
        other = await bench.join(BOB)
        for number in (1, 2):
            sender.tell("talk", asking(number, "queued", to=SENDER))
        await statuses(sender, "queued", "queued")
        assert other.deliveries == []
        assert target.numbers == [1, 2]
        sender.pong()
        assert sender.errors == []


async def test_it_is_read_by_the_next_session_too(shared: SmartRouter) -> None:
    async with running(shared) as bench:
        target, sender = await bench.join(SENDER), await bench.join(ALICE)
        sender.tell("talk", asking(1, "delivered", to=SENDER))
        sender.cut()
        target.pong()
        await until(lambda: bench.waiting(ALICE) == 1)
        again = await bench.join(ALICE)
        await statuses(again, "delivered")


async def test_a_session_that_came_before_the_mailbox_reads_it_from_then_on(shared: SmartRouter) -> None:
    async with running(shared) as bench:
        target, sender = await bench.join(SENDER), await bench.join(ALICE)
        sender.tell("talk", asking(1, "delivered", to=SENDER))
        sender.cut()
        again = await bench.join(ALICE)
        target.pong()
        await statuses(again, "delivered")


async def test_a_mailbox_that_takes_no_receipt_costs_the_receipt_only() -> None:
    app = talking(mailbox="endpoint", max_mailboxes=1)
    async with running(app) as bench:
        target, sender = await bench.join(SENDER), await bench.join(ALICE)
        sender.tell("talk", asking(1, "delivered", to=SENDER))
        target.pong()
        await until(lambda: bench.receipts.statistics().lost == 1)
        assert receipts(sender) == []
        assert bench.broker.statistics().in_flight == 0


# wrong


@pytest.mark.parametrize("wrong", [[], ["seen"], ["read", "seen"], "read", [1], {"read": True}])
async def test_what_cannot_be_asked_for(bench: Bench, wrong: Any) -> None:
    sender = await bench.join(SENDER)
    answer = await sender.asked("talk", {**message(1, to=ALICE), "options": {"receipt": wrong}})
    assert answer["error"]["code"] == "bad_message"
    assert "receipt" in answer["error"]["message"]
    assert bench.router.statistics().refused == 1
    assert bench.router.statistics().published == 0


async def test_a_repeat_is_not_told_of_twice(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    first = await sender.asked("talk", asking(1, "queued", id="k"))
    assert await sender.asked("talk", asking(1, "queued", id="k")) == first
    await statuses(sender, "queued")


# on disk, and across restarts


async def test_the_receipt_comes_after_a_restart_between_delivery_and_confirmation(tmp_path: Path) -> None:
    bench = await Bench(talking(), tmp_path).open()
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    answer = await sender.asked("talk", asking(1, "queued", "delivered"))
    await statuses(sender, "queued")
    assert alice.numbers == [1]
    sender.pong()
    bench = await bench.again()
    try:
        sender, alice = await bench.join(SENDER), await bench.join(ALICE)
        await until(lambda: alice.numbers == [1])
        alice.pong()
        await until(lambda: "delivered" in [status for _, status, _ in told(sender)])
        assert receipts(sender)[-1]["message"] == answer["id"]
        sender.pong()
        await until(lambda: bench.broker.statistics().in_flight == 0)
    finally:
        await bench.close()


async def test_what_is_confirmed_is_not_given_again_while_its_receipt_is_written(tmp_path: Path) -> None:
    async with running(talking(), tmp_path) as bench:
        sender, alice = await bench.join(SENDER), await bench.join(ALICE)
        await sender.asked("talk", asking(1, "delivered"))
        alice.pong()
        alice.cut()
        again = await bench.join(ALICE)
        sender.tell("talk", message(2, to=ALICE))
        await until(lambda: again.numbers)
        await statuses(sender, "delivered")
        assert again.numbers == [2]
        sender.cut()
    async with running(talking(), tmp_path) as bench:
        assert bench.waiting(ALICE) == 1


async def test_queued_is_told_first_though_the_recipient_is_quicker_than_the_disk(tmp_path: Path) -> None:
    async with running(talking(), tmp_path) as bench:
        sender, alice = await bench.join(SENDER), await bench.join(ALICE)
        sender.tell("talk", asking(1, "queued", "delivered"))
        alice.pong()
        await statuses(sender, "queued", "delivered")


# several nodes


async def test_across_nodes() -> None:
    async with running(talking(), alone=False) as first, running(talking(), among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender, alice = await first.join(SENDER), await second.join(ALICE)
        sender.tell("talk", asking(1, "queued", "delivered"))
        await until(lambda: alice.numbers == [1])
        alice.pong()
        await until(lambda: len(receipts(sender)) == 2)
        assert second.receipts.statistics().told == 1


async def test_across_nodes_to_a_sender_without_an_own_mailbox() -> None:
    app = talking(mailbox="endpoint")
    async with running(app, alone=False) as first, running(app, among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender, target = await first.join(ALICE), await second.join(SENDER)
        sender.tell("talk", asking(1, "delivered", to=SENDER))
        await until(lambda: target.numbers == [1])
        target.pong()
        await statuses(sender, "delivered")


async def test_while_the_disk_is_full_receipts_wait(tmp_path: Path) -> None:
    async with running(talking(), tmp_path) as bench:
        sender, alice = await bench.join(SENDER), await bench.join(ALICE)
        await sender.asked("talk", asking(1, "delivered"))
        size = (tmp_path / "journal.db-wal").stat().st_size
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            alice.pong()
            await until(lambda: bench.receipts.statistics().waiting == 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert in_flight(bench, ALICE) == 1, "not forgotten before its receipt is safe"
        await until(lambda: bench.receipts.statistics()[:3] == (1, 0, 0))
        await until(lambda: in_flight(bench, ALICE) == 0)
        assert {each["message"] for each in receipts(sender)} == {alice.deliveries[0].message["id"]}
        assert {status for _, status, _ in told(sender)} == {"delivered"}
