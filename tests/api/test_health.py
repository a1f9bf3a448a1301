"""Alive, ready, and what went wrong since the last check."""

import pytest

from smart_router.app import Node
from tests.api.nodes import ADMIN, MONITOR, NOBODY, ask, bearer

__all__: list[str] = []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_alive_and_ready(node: Node, method: str, path: str) -> None:
    answer = await ask(node, method, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert bool(answer.body) is (method == "GET")
    assert int(answer.headers["content-length"]) > 0


async def test_what_is_not_ready_says_why_and_stays_alive(node: Node) -> None:
    node.core.router.draining = True
    answer = await ask(node, "GET", "/readyz")
    assert answer.status == 503
    assert answer.json == {"ready": False, "reasons": ["draining"], "message": "draining"}
    assert (await ask(node, "GET", "/healthz")).status == 200


async def test_a_check_returns_the_entries_and_clears_them(node: Node) -> None:
    node.core.health.warning("Endpoint [/agent/456] already exists. Aborted.")
    node.core.health.error("[toto] is not a valid Endpoint.")
    entries = (await ask(node, "POST", "/check")).json["entries"]
    assert [(entry["level"], entry["message"]) for entry in entries] == [
        ("warning", "Endpoint [/agent/456] already exists. Aborted."),
        ("error", "[toto] is not a valid Endpoint."),
    ]
    assert all(isinstance(entry["at"], int) for entry in entries)
    entries = (await ask(node, "POST", "/check")).json["entries"]
    assert [entry["level"] for entry in entries] == ["ok"]


async def test_healthz_and_readyz_change_nothing(node: Node) -> None:
    node.core.health.warning("told later")
    await ask(node, "GET", "/healthz")
    await ask(node, "GET", "/readyz")
    assert (await ask(node, "POST", "/check")).json["entries"][0]["message"] == "told later"


@pytest.mark.parametrize(("method", "path"), [("POST", "/check"), ("GET", "/metrics")])
async def test_with_authentication_watching_needs_a_scope(guarded: Node, method: str, path: str) -> None:
    nobody = await ask(guarded, method, path)
    assert (nobody.status, nobody.json["code"], nobody.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
    wrong = await ask(guarded, method, path, bearer("made-up-token-0123456789"))
    assert (wrong.status, wrong.json["code"]) == (401, "unauthorized")
    without = await ask(guarded, method, path, bearer(NOBODY))
    assert (without.status, without.json["code"]) == (403, "forbidden")
    assert NOBODY not in without.body.decode()
    for token in (MONITOR, ADMIN):
        assert (await ask(guarded, method, path, bearer(token))).status == 200


async def test_with_authentication_health_stays_open(guarded: Node) -> None:
    assert (await ask(guarded, "GET", "/healthz")).status == 200
    assert (await ask(guarded, "GET", "/readyz")).status == 200
