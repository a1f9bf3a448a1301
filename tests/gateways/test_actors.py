"""The handshake and the errors, as an actor sees them (specs: actor routing)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from smart_router.app import SmartRouter
from smart_router.core.actions import Context
from smart_router.errors import Refused
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE = "ui/456/alice"


def app() -> SmartRouter:
    app = talking(max_message_size=1000)
    app.endpoint("livechat/{id}", sub_endpoints=["acme"], mailbox="endpoint")
    app.endpoint("agent/{id}", sub_endpoints=["456"], mailbox="actor+endpoint")

    @app.any.on("direct")
    def direct(context: Context) -> None:
        context.publish(context.message.payload)

    return app


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(app()) as bench:
        yield bench


@pytest.fixture
async def alice(bench: Bench) -> Client:
    return await bench.join(ALICE)


# the handshake


async def test_who_are_you_i_am_hello(bench: Bench) -> None:
    client = bench.client("/ui/456")
    client.open()
    assert client.log == [("whoareyou", {})]
    client.tell("iam", ALICE)
    await until(lambda: client.hellos)
    assert client.log[1:] == [("hello", {})]


async def test_who_says_it_on_connecting_gets_hello_at_once(bench: Bench) -> None:
    client = await bench.join(ALICE)
    assert client.log == [("hello", {})]
    assert client.hellos == [("received", False)]


async def test_a_message_of_somebody_unknown_comes_back(bench: Bench) -> None:
    client = bench.client("/ui/456")
    client.open()
    sent = message("hello", to=ALICE)
    client.tell("talk", sent)
    assert client.log[1:] == [("whoareyou", {"type": "talk", "message": sent})]
    number = client.send("talk", sent)
    assert client.answers[number]["error"]["code"] == "not_identified"
    assert bench.waiting(ALICE) == 0


@pytest.mark.parametrize(
    "wrong",
    ["alice", "ui/457/alice", "ui/456/", "ui/456/a b", "ui/456/a/b", "ui/456/" + "a" * 129, 7, None, {}, "ui/456/ä"],
)
async def test_an_id_of_another_form(bench: Bench, wrong: Any) -> None:
    client = bench.client("/ui/456")
    client.open()
    client.tell("iam", wrong)
    assert client.codes == ["bad_actor"]
    assert "ui/456/NAME" in client.errors[0]["message"]
    client.tell("iam", ALICE)
    await until(lambda: client.hellos)


@pytest.mark.parametrize("own", ["a", "A-Z.0_9~@:+-", "a" * 128])
async def test_every_character_of_an_id(bench: Bench, own: str) -> None:
    client = await bench.join(f"ui/456/{own}")
    assert client.names == ["hello"]


async def test_the_same_id_again_gets_hello_again_another_one_an_error(alice: Client) -> None:
    alice.tell("iam", ALICE)
    assert alice.names == ["hello", "hello"]
    alice.tell("iam", "ui/456/bob")
    assert alice.codes == ["already_identified"]
    number = alice.send("iam", "ui/456/bob")
    assert alice.answers[number]["error"]["code"] == "already_identified"
    assert len(alice.errors) == 1


async def test_a_wrong_id_on_connecting_is_a_connect_error(bench: Bench) -> None:
    with pytest.raises(Refused, match="ui/456/NAME"):
        bench.client("/ui/456").open({"actor": "ui/457/alice"})


@pytest.mark.parametrize("namespace", ["/", "/nobody", "/ui", "/ui/457", "/ui/456/x", "/daemon/1", "/livechat"])
async def test_a_namespace_that_is_no_endpoint(bench: Bench, namespace: str) -> None:
    client = bench.client(namespace)
    if namespace == "/":
        client.open()
        assert client.log == []
        return
    with pytest.raises(Refused, match="Invalid namespace"):
        client.open()


async def test_what_comes_while_attaching_keeps_its_order(bench: Bench) -> None:
    client = bench.client("/ui/456")
    client.open()
    client.tell("iam", ALICE)
    for number in range(100):
        client.tell("talk", message(number, to=ALICE))
    assert "hello" not in client.names
    assert not client.reading
    await until(lambda: len(client.deliveries) == 100)
    assert client.numbers == list(range(100))
    assert client.names[:2] == ["whoareyou", "hello"]
    assert client.reading


# errors

WITHOUT_IDS = [{}, [], "text", 7, None, {"payload": 1}, {"ids": None}, {"ids": []}, {"ids": "x"}]


@pytest.mark.parametrize("wrong", WITHOUT_IDS, ids=repr)
async def test_a_message_is_an_object_with_ids(alice: Client, wrong: Any) -> None:
    alice.tell("talk", wrong)
    assert alice.codes == ["bad_message"]
    assert "`ids`" in alice.errors[0]["message"] or "one object" in alice.errors[0]["message"]
    assert (alice.errors[0]["type"], alice.errors[0]["temporary"]) == ("talk", False)


async def test_an_event_without_a_message(alice: Client) -> None:
    alice.tell("talk")
    assert alice.codes == ["bad_message"]


async def test_an_unknown_type_names_type_and_endpoint(bench: Bench, alice: Client) -> None:
    alice.tell("nonsense", message())
    error = alice.errors[0]
    assert (error["code"], error["type"]) == ("no_route", "nonsense")
    assert "'nonsense'" in error["message"]
    assert "'ui'" in error["message"]
    assert bench.router.statistics().no_route == 1


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (7, "bad_address"),
        (None, "bad_address"),
        ("", "bad_address"),
        ("/ui/456/alice", "bad_address"),
        ("ui//alice", "bad_address"),
        ("ui/456/a b", "bad_address"),
        ("ui/456/alice/x", "bad_address"),
        ({"a": 1}, "bad_address"),
        ([["ui/456/alice"], 3], "bad_address"),
        ("nobody", "unknown_address"),
        ("nobody/7", "unknown_address"),
        ("ui/457/alice", "unknown_address"),
        ("ui", "unknown_address"),
        ("daemon/a/b", "unknown_address"),
        ("ui/456", "no_mailbox"),
        ("daemon", "no_mailbox"),
        ("livechat/acme/bob", "no_mailbox"),
    ],
)
async def test_where_a_message_cannot_go(bench: Bench, alice: Client, address: Any, code: str) -> None:
    answer = await alice.asked("direct", {"ids": {}, "payload": address})
    assert answer["error"]["code"] == code
    if isinstance(address, str):
        assert answer["error"]["address"] == address
    assert bench.broker.statistics().puts == 0
    assert not alice.errors


async def test_too_large_says_the_limit(bench: Bench, alice: Client) -> None:
    placeholder = {"_placeholder": True, "num": 0}
    cases: list[tuple[Any, tuple[bytes, ...]]] = [("x" * 1000, ()), (placeholder, (b"x" * 990,))]
    for payload, attachments in cases:
        alice.tell("talk", message(payload, to=ALICE), attachments=attachments)
        error = alice.errors[-1]
        assert (error["code"], error["limit"]) == ("too_large", 1000)
        assert "1000" in error["message"]
    assert bench.broker.statistics().puts == 0


async def test_too_large_for_the_recipient(bench: Bench) -> None:
    sender = await bench.join("daemon/s")
    answer = await sender.asked("talk", message("x" * 1000, to=ALICE))
    assert answer["error"]["code"] == "too_large"
    assert (answer["error"]["limit"], answer["error"]["address"]) == (1000, ALICE)


@pytest.mark.parametrize(
    "options",
    [{"deliver": "all"}, {"trace": True}],
    ids=lambda options: next(iter(options)),
)
async def test_an_option_not_offered_is_refused_by_name(alice: Client, options: dict[str, Any]) -> None:
    answer = await alice.asked("talk", {**message(to=ALICE), "options": options})
    assert answer["error"]["code"] == "unsupported"
    assert f"`options.{next(iter(options))}`" in answer["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": 1e10},
        {"ttl": "1"},
        {"ttl": True},
        {"priority": -1},
        {"priority": 10},
        {"priority": 1.5},
        {"id": ""},
        {"id": "x" * 65},
        {"id": 7},
        {"supersede": 1},
        {"unknown": 1},
        [],
        "text",
    ],
    ids=repr,
)
async def test_options_that_cannot_be(alice: Client, options: Any) -> None:
    answer = await alice.asked("talk", {**message(to=ALICE), "options": options})
    assert answer["error"]["code"] == "bad_message"
    assert "options" in answer["error"]["message"]
    assert not alice.deliveries


async def test_who_asked_for_an_acknowledgement_gets_no_event(alice: Client) -> None:
    answer = await alice.asked("nonsense", message())
    assert list(answer) == ["error"]
    assert not alice.errors


async def test_draining_refuses(bench: Bench, alice: Client) -> None:
    bench.router.draining = True
    answer = await alice.asked("talk", message(to=ALICE))
    assert answer["error"]["code"] == "shutting_down"
    assert answer["error"]["temporary"] is True
