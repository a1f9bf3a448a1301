"""What the npm client is told when something is wrong: each row of specs, actor routing, with its exact shape."""

from typing import Any

import pytest

from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actor, Actors

__all__: list[str] = []

LIMIT = 65_536


@pytest.fixture(params=[WEBSOCKET, POLLING, UPGRADE], ids=["websocket", "polling", "upgrade"])
def page(request: pytest.FixtureRequest, actors: Actors, url: str, unique: str) -> Actor:
    return actors.connect(url, f"ui/456/page-{unique}", transports=request.param)


def test_unknown_type(page: Actor) -> None:
    told = both_ways(page, "shout", {"ids": {}})
    assert told["code"] == "no_route"
    assert told["type"] == "shout"
    assert "shout" in told["message"]
    assert "ui" in told["message"]


def test_unknown_address(page: Actor) -> None:
    told = both_ways(page, "talk", {"ids": {"agent": "nobody/1/x"}})
    assert told["code"] == "unknown_address"
    assert told["address"] == "nobody/1/x"


def test_unknown_sub_endpoint(page: Actor) -> None:
    assert both_ways(page, "talk", {"ids": {"agent": "agent/999/x"}})["code"] == "unknown_address"


def test_an_address_without_a_mailbox(page: Actor) -> None:
    """ui has mode actor: its sub-endpoint has no mailbox; livechat has mode endpoint: its actors have none."""
    for address in ("ui/456", "livechat/acme/someone"):
        told = both_ways(page, "echo", {"ids": {"default": address}})
        assert (told["code"], told["address"]) == ("no_mailbox", address)


@pytest.mark.parametrize("address", [None, 7, "", "agent/456/ ", "a//b", "/agent/456", {"x": 1}])
def test_not_an_address(actors: Actors, url: str, unique: str, address: object) -> None:
    page = actors.connect(url, f"ui/456/page-{unique}")
    assert both_ways(page, "talk", {"ids": {"agent": address}})["code"] == "bad_address"


@pytest.mark.parametrize("message", [{}, {"ids": []}, {"ids": "agent"}, {"ids": None}, "text", 7, None, []])
def test_ids_missing(actors: Actors, url: str, unique: str, message: object) -> None:
    page = actors.connect(url, f"ui/456/page-{unique}")
    told = both_ways(page, "talk", message)
    assert told["code"] == "bad_message"
    assert "ids" in told["message"] or not isinstance(message, dict)


def test_oversize_names_the_limit(page: Actor) -> None:
    told = both_ways(page, "echo", {"ids": {"default": page.id}, "payload": "x" * LIMIT})
    assert told["code"] == "too_large"
    assert told["limit"] == LIMIT
    assert str(LIMIT) in told["message"].replace(",", "").replace(" ", "") or "64" in told["message"]
    page.emit("echo", {"ids": {"default": page.id}, "payload": "x" * (LIMIT - 200)})
    assert len(page.receive("echo")["payload"]) == LIMIT - 200


def test_binary_counts_as_size(page: Actor) -> None:
    half = {"$bytes": "AAAA" * (LIMIT // 6)}
    told = both_ways(page, "echo", {"ids": {"default": page.id}, "payload": [half, half, half]})
    assert (told["code"], told["limit"]) == ("too_large", LIMIT)


def test_iam_again(page: Actor) -> None:
    page.emit("iam", page.id)
    assert page.receive("hello") == {}
    page.emit("iam", page.id + "-other")
    assert page.receive("error")["code"] == "already_identified"
    page.emit("echo", {"ids": {"default": page.id}, "payload": "still who I was"})
    assert page.receive("echo")["from"] == page.id


@pytest.mark.parametrize("name", ["ui/457/x", "ui/456", "x", "ui/456/", "ui/456/a b", "ui/456/" + "x" * 129, 7, None])
def test_iam_of_another_form(actors: Actors, url: str, unique: str, name: object) -> None:
    page = actors.connect(url, f"ui/456/{unique}", identify=False)
    page.receive("whoareyou")
    page.emit("iam", name)
    told = page.receive("error")
    assert told["code"] == "bad_actor"
    assert "ui/456/" in told["message"]
    page.emit("iam", page.id)
    assert page.receive("hello") == {}


def test_who_are_you_gives_the_message_back(actors: Actors, url: str, unique: str) -> None:
    page = actors.connect(url, f"ui/456/{unique}", identify=False)
    assert page.receive("whoareyou") == {}
    message = {"ids": {"default": page.id}, "payload": {"first": "words"}, "more": None}
    page.emit("echo", message)
    assert page.receive("whoareyou") == {"type": "echo", "message": message}
    assert page.request("echo", message)["error"]["code"] == "not_identified"
    assert page.receive("whoareyou") == {"type": "echo", "message": message}
    page.emit("iam", page.id)
    page.receive("hello")
    page.emit("echo", message)
    assert page.receive("echo")["payload"] == {"first": "words"}


def test_auth_object_needs_no_iam(actors: Actors, url: str, unique: str) -> None:
    name = f"ui/456/{unique}"
    page = actors.connect(url, name, identify=False, auth={"actor": name})
    assert page.expect("event")["type"] == "hello"
    page.emit("echo", {"ids": {"default": name}})
    assert page.receive("echo")["from"] == name


def test_auth_object_of_another_form(actors: Actors, url: str) -> None:
    page = actors.connect(url, "ui/456/x", identify=False, auth={"actor": "agent/456/x"})
    told = page.expect("connect_error")
    assert "ui/456/" in told["message"]


@pytest.mark.parametrize("namespace", ["/nowhere", "/agent", "/agent/999", "/agent/456/x"])
def test_unknown_namespace(actors: Actors, url: str, namespace: str) -> None:
    page = actors.connect(url, "ui/456/x", identify=False, namespace=namespace)
    assert page.expect("connect_error")["message"] == "Invalid namespace", "the text that Socket.IO's own server uses"


def both_ways(actor: Actor, kind: str, message: object) -> dict[str, Any]:
    """The error of an event, and the same as the answer to one that asks: then there is no event."""
    answer = actor.request(kind, message)
    actor.emit(kind, message)
    told = actor.receive("error")
    asked = dict(answer["error"])
    assert {**asked, "id": ""} == {**told, "id": ""}
    assert told["temporary"] is False
    return dict(told)
