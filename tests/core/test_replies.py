"""Requests: the sender's acknowledgement is the recipient's reply, or says why there is none; and marks as read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from smart_router.core.actions import Context
from smart_router.core.replies import MAX_OPEN
from tests.core.test_receipts import ALICE, BOB, SENDER, asking, policies, receipts, statuses, told
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until


def request(number: Any, seconds: Any = 5, to: Any = ALICE, **options: Any) -> dict[str, Any]:
    return {**message(number, to=to), "options": {"reply": seconds, **options}}


async def replied(client: Client, to: str, payload: Any) -> Any:
    return await client.asked("reply", {"to": to, "payload": payload})


async def answered(client: Client, number: int) -> Any:
    await until(lambda: number in client.answers)
    return client.answers[number]


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with running(talking(**getattr(request, "param", {}))) as bench:
        yield bench


# replies


async def test_the_acknowledgement_is_the_reply(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    number = sender.send("talk", request({"q": 1}))
    await until(lambda: alice.deliveries)
    got = alice.deliveries[0].message
    assert got["options"] == {"reply": 5}
    assert sender.answers == {}
    assert await replied(alice, got["id"], {"a": [1, "ž"]}) == {}
    assert await answered(sender, number) == {
        "id": got["id"], "status": "replied", "reply": {"a": [1, "ž"]}, "from": ALICE
    }  # fmt: skip
    assert bench.replies.statistics()[:3] == (0, 1, 1)
    assert bench.waiting(ALICE) == 0


@policies(ack="client")
async def test_in_client_mode_the_acknowledgement_may_hold_it(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    number = sender.send("talk", request(1))
    ack_id = alice.deliveries[0].ack_id
    assert ack_id is not None
    alice.answer(ack_id, {"reply": None})
    assert (await answered(sender, number))["reply"] is None
    assert bench.broker.statistics().in_flight == 0


@policies(ack="client")
async def test_an_object_of_the_application_is_no_reply(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", message(1, to=ALICE))
    ack_id = alice.deliveries[0].ack_id
    assert ack_id is not None
    alice.answer(ack_id, {"reply": 1})
    assert alice.errors == []
    alice.answer(ack_id, {"reply": 1})
    assert alice.codes == ["unknown_message"]


@policies(ack="client")
async def test_a_reply_by_event_does_not_confirm_in_client_mode(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    number = sender.send("talk", request(1))
    assert await replied(alice, alice.deliveries[0].message["id"], 1) == {}
    await answered(sender, number)
    assert bench.broker.statistics().in_flight == 1


async def test_the_first_of_several_wins() -> None:
    app = talking()

    @app.any.on("all")
    def everybody(context: Context) -> None:
        context.publish([ALICE, BOB])

    async with running(app) as bench:
        sender, alice, bob = await bench.join(SENDER), await bench.join(ALICE), await bench.join(BOB)
        number = sender.send("all", request(1))
        id_ = bob.deliveries[0].message["id"]
        assert await replied(bob, id_, "bob") == {}
        assert (await answered(sender, number))["from"] == BOB
        late = await replied(alice, id_, "alice")
        assert late["error"]["code"] == "unknown_message"
        assert await replied(bob, id_, "bob") == {}, "said again after a cut"
        assert bench.replies.statistics().late == 1


async def test_no_reply_in_time(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    number = sender.send("talk", request(1, 2.5))
    bench.pass_time(2)
    assert sender.answers == {}
    bench.pass_time(1)
    answer = await answered(sender, number)
    assert answer["error"]["code"] == "reply_timeout"
    assert answer["error"]["temporary"]
    assert answer["id"] == alice.deliveries[0].message["id"]
    assert (await replied(alice, answer["id"], 1))["error"]["code"] == "unknown_message"
    assert (bench.replies.statistics().timed_out, bench.replies.statistics().late) == (1, 1)


async def test_nobody_is_left_to_reply(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    number = sender.send("talk", request(1, 60, ttl=1))
    bench.pass_time(2)
    answer = await answered(sender, number)
    assert answer["error"]["code"] == "reply_refused"
    assert "expired (ttl)" in answer["error"]["message"]


async def test_nobody_gets_it() -> None:
    app = talking()

    @app.any.on("void")
    def void(context: Context) -> None:
        return

    async with running(app) as bench:
        sender = await bench.join(SENDER)
        answer = await sender.asked("void", request(1))
        assert answer["error"]["code"] == "no_recipient"
        assert bench.replies.statistics().open == 0


@policies(max_messages=1, overflow="refuse")
async def test_no_mailbox_takes_it(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    sender.tell("talk", message(1, to=ALICE))
    answer = await sender.asked("talk", request(2))
    assert answer["error"]["code"] == "mailbox_full"
    assert answer["refused"] == [ALICE]
    assert bench.replies.statistics().open == 0


async def test_with_its_connection_a_request_is_over(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.send("talk", request(1))
    sender.cut()
    assert bench.replies.statistics().open == 0
    error = (await replied(alice, alice.deliveries[0].message["id"], 1))["error"]
    assert (error["code"], error["id"]) == ("unknown_message", alice.deliveries[0].message["id"])


async def test_a_repeat_waits_for_the_reply_to_the_first(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.send("talk", request(1, id="k"))
    sender.cut()
    again = await bench.join(SENDER)
    number = again.send("talk", request(1, id="k"))
    assert alice.numbers == [1]
    assert await replied(alice, alice.deliveries[0].message["id"], "yes") == {}
    assert (await answered(again, number))["reply"] == "yes"


async def test_no_more_than_64_wait_for_one_session(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    for number in range(MAX_OPEN):
        sender.send("talk", request(number))
    answer = await sender.asked("talk", request("one more"))
    assert (answer["error"]["code"], answer["error"]["limit"]) == ("busy", MAX_OPEN)
    assert bench.waiting(ALICE) == MAX_OPEN
    bench.pass_time(6)
    assert len(sender.answers) == MAX_OPEN + 1
    assert bench.replies.statistics().open == 0


@pytest.mark.parametrize("seconds", [0, -1, 3600.5, 1e15, "5", True])
async def test_how_long_it_may_wait(bench: Bench, seconds: Any) -> None:
    sender = await bench.join(SENDER)
    answer = await sender.asked("talk", request(1, seconds))
    assert answer["error"]["code"] == "bad_message"
    assert "reply" in answer["error"]["message"]
    assert bench.router.statistics().published == 0


async def test_without_an_acknowledgement_there_is_nothing_to_reply_to(bench: Bench) -> None:
    sender = await bench.join(SENDER)
    sender.tell("talk", request(1))
    assert sender.codes == ["bad_message"]
    assert bench.router.statistics().published == 0


@pytest.mark.parametrize("wrong", [{"to": 1}, {"payload": 1}, {}, [], "x", {"to": "unknown", "payload": 1}], ids=str)
async def test_a_reply_to_nothing(bench: Bench, wrong: Any) -> None:
    alice = await bench.join(ALICE)
    answer = await alice.asked("reply", wrong)
    assert answer["error"]["code"] in ("bad_message", "unknown_message", "no_route")


async def test_who_was_not_asked_cannot_reply(bench: Bench) -> None:
    sender, alice, bob = await bench.join(SENDER), await bench.join(ALICE), await bench.join(BOB)
    sender.send("talk", request(1))
    sender.send("talk", message(2, to=ALICE))
    first, second = (got.message["id"] for got in alice.deliveries)
    assert (await replied(bob, first, 1))["error"]["code"] == "unknown_message"
    assert (await replied(alice, second, 1))["error"]["code"] == "unknown_message"
    assert bench.marks.statistics().refused == 2
    assert bench.replies.statistics().open == 1


async def test_a_reply_has_a_size(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.send("talk", request(1))
    answer = await replied(alice, alice.deliveries[0].message["id"], "x" * 70_000)
    assert answer["error"]["code"] == "too_large"


async def test_a_route_named_reply_stays_a_route() -> None:
    app = talking()

    @app.any.on("reply")
    def reply(context: Context) -> None:
        context.publish(context.message.ids["to"])

    async with running(app) as bench:
        sender, alice = await bench.join(SENDER), await bench.join(ALICE)
        sender.tell("reply", message(1, to=ALICE))
        assert alice.numbers == [1]


# several nodes


async def test_across_nodes() -> None:
    async with running(talking(), alone=False) as first, running(talking(), among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender, alice = await first.join(SENDER), await second.join(ALICE)
        number = sender.send("talk", request(1))
        await until(lambda: alice.deliveries)
        id_ = alice.deliveries[0].message["id"]
        assert await replied(alice, id_, "yes") == {}
        assert (await answered(sender, number))["reply"] == "yes"
        late = await replied(alice, id_, "no")
        assert late["error"]["code"] == "unknown_message"


async def test_the_asker_has_come_to_another_node() -> None:
    async with running(talking(), alone=False) as first, running(talking(), among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender, alice = await first.join(SENDER), await first.join(ALICE)
        sender.send("talk", request(1, id="k"))
        sender.cut()
        again = await second.join(SENDER)
        number = again.send("talk", request(1, id="k"))
        assert await replied(alice, alice.deliveries[0].message["id"], "yes") == {}
        assert (await answered(again, number))["reply"] == "yes"


async def test_the_replier_has_come_to_another_node() -> None:
    async with running(talking(), alone=False) as first, running(talking(), among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender, alice = await first.join(SENDER), await first.join(ALICE)
        number = sender.send("talk", request(1, receipt=["read"]))
        alice.pong()
        id_ = alice.deliveries[0].message["id"]
        alice.cut()
        again = await second.join(ALICE)
        assert await replied(again, id_, "yes") == {}
        assert (await answered(sender, number))["reply"] == "yes"
        assert await again.asked("read", {"id": id_}) == {}
        await statuses(sender, "read")
        assert (await again.asked("read", {"id": "other"}))["error"]["code"] == "unknown_message"


async def test_across_nodes_nobody_is_left() -> None:
    async with running(talking(), alone=False) as first, running(talking(), among=first) as second:
        await until(lambda: first.installation.moving.nodes == second.installation.moving.nodes == 1)
        sender = await second.join(SENDER)
        number = sender.send("talk", request(1, 60, ttl=1))
        first.pass_time(2)
        assert (await answered(sender, number))["error"]["code"] == "reply_refused"


# marks as read


async def test_read_is_told_once_and_after_delivered(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, "delivered", "read"))
    id_ = alice.deliveries[0].message["id"]
    for _ in range(2):
        assert await alice.asked("read", {"id": id_}) == {}
    await statuses(sender, "delivered", "read")
    assert receipts(sender)[1]["message"] == id_
    assert bench.receipts.statistics().told == 2


async def test_only_who_asked_is_told(bench: Bench) -> None:
    sender, alice, bob = await bench.join(SENDER), await bench.join(ALICE), await bench.join(BOB)
    sender.tell("talk", asking(1, "delivered"))
    sender.tell("talk", asking(2, "read"))
    first, second = (got.message["id"] for got in alice.deliveries)
    assert (await alice.asked("read", {"id": first}))["error"]["code"] == "unknown_message"
    assert (await bob.asked("read", {"id": second}))["error"]["code"] == "unknown_message"
    bench.pass_time(1)
    alice.pong()
    bench.clock.advance(3601)
    assert (await alice.asked("read", {"id": second}))["error"]["code"] == "unknown_message"
    assert told(sender) == [(ALICE, "delivered", "")]
    assert bench.marks.statistics().refused == 3


@policies(ack="client")
async def test_in_client_mode_it_is_acknowledged_first(bench: Bench) -> None:
    sender, alice = await bench.join(SENDER), await bench.join(ALICE)
    sender.tell("talk", asking(1, "read"))
    got = alice.deliveries[0]
    assert got.ack_id is not None
    error = (await alice.asked("read", {"id": got.message["id"]}))["error"]
    assert "acknowledge it first" in error["message"]
    alice.answer(got.ack_id)
    assert await alice.asked("read", {"id": got.message["id"]}) == {}
    await statuses(sender, "read")
