"""POST /revocations: who may, what is taken, what is refused, and that it holds."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from smart_router.app import Node
from tests.api.nodes import ADMIN, MONITOR, Answer, ask, bearer

__all__: list[str] = []

JSON = {"Content-Type": "application/json"}


async def revoke(node: Node, body: Any, token: str = ADMIN, headers: dict[str, str] | None = None) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(node, "POST", "/revocations", {**JSON, **bearer(token), **(headers or {})}, raw)


async def test_revoked_is_revoked_at_once_and_written_down(guarded: Node) -> None:
    assert (await ask(guarded, "GET", "/metrics", bearer(MONITOR))).status == 200
    answer = await revoke(guarded, {"subject": "watcher"})
    assert answer.status == 201
    assert answer.json == {"at": answer.json["at"], "subject": "watcher"}
    assert [one.subject for one in await guarded.core.store.revocations()] == ["watcher"]
    refused = await ask(guarded, "GET", "/metrics", bearer(MONITOR))
    assert (refused.status, refused.json["code"]) == (401, "revoked")


async def test_a_token_id_with_an_end(guarded: Node) -> None:
    answer = await revoke(guarded, {"jti": "t-1", "expires_at": 4_000_000_000_000})
    assert answer.status == 201
    assert answer.json == {"at": answer.json["at"], "jti": "t-1", "expires_at": 4_000_000_000_000}


async def test_who_revoked_what_stands_in_the_log(guarded: Node) -> None:
    with capture_logs() as logged:
        await revoke(guarded, {"subject": "ui/456/u1"})
    (entry,) = [one for one in logged if one["event"] == "revocation_added"]
    assert (entry["by"], entry["subject"]) == ("root", "ui/456/u1")
    assert ADMIN not in str(logged)


@pytest.mark.parametrize("token", [MONITOR, "made-up-token-0123456789"])
async def test_others_may_not(guarded: Node, token: str) -> None:
    answer = await revoke(guarded, {"subject": "root"}, token)
    assert answer.status == (403 if token == MONITOR else 401)
    assert len(guarded.core.revocations) == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": "a", "jti": "b"},
        {"subject": ""},
        {"subject": 5},
        {"subject": "a" * 513},
        {"subject": "a", "expires_at": -1},
        {"subject": "a", "until": 5},
        [],
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 5_000,
    ],
    ids=lambda body: repr(body)[:30],
)
async def test_what_makes_no_sense_changes_nothing(guarded: Node, body: Any) -> None:
    answer = await revoke(guarded, body)
    assert (answer.status, answer.json["code"]) == (400, "bad_message")
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(guarded.core.revocations) == 0


async def test_a_body_too_large(guarded: Node) -> None:
    answer = await revoke(guarded, b" " * 100_000)
    assert (answer.status, answer.json["code"]) == (413, "too_large")


async def test_only_json_and_only_from_our_own_pages(guarded: Node) -> None:
    """A page elsewhere can make a browser send a form or plain text without asking, but never JSON (CSRF)."""
    form = await revoke(guarded, {"subject": "a"}, headers={"Content-Type": "text/plain"})
    assert (form.status, form.json["code"]) == (415, "unsupported")
    foreign = await revoke(guarded, {"subject": "a"}, headers={"Origin": "http://evil.example"})
    assert (foreign.status, foreign.json["code"]) == (403, "forbidden")
    host, port = guarded.addresses[0]
    own = await revoke(guarded, {"subject": "a"}, headers={"Origin": f"http://{host}:{port}"})
    assert own.status == 201
