"""Errors over HTTP, and the description of what there is."""

import json
from http import HTTPStatus
from typing import Any

import pytest
from litestar import Request

from smart_router.api.problems import EXCEPTION_HANDLERS, problem
from smart_router.app import Node
from smart_router.errors import CODES, Refused
from tests.api.nodes import ask

__all__: list[str] = []


@pytest.mark.parametrize("path", ["/", "/nothing", "/check/more", "/metrics.txt", "/%00", "/..", "/" + "x/" * 500])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_an_unknown_path(node: Node, method: str, path: str) -> None:
    answer = await ask(node, method, path)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    told = answer.json
    assert (told["code"], told["status"], told["title"], told["temporary"]) == ("not_found", 404, "Not Found", False)
    assert path == "/" or path not in told["detail"]


async def test_a_method_that_a_path_does_not_have(node: Node) -> None:
    answer = await ask(node, "GET", "/check")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


async def test_every_answer_is_kept_from_being_run_framed_or_guessed_at(node: Node) -> None:
    for method, path in [("GET", "/healthz"), ("GET", "/metrics"), ("POST", "/check"), ("GET", "/nothing")]:
        headers = (await ask(node, method, path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_status(code: str) -> None:
    answer = problem(Refused(code, "so it is", limit=5))
    told = json.loads(answer.content)
    assert answer.status_code is not None
    assert told["status"] == answer.status_code >= 400
    assert (told["code"], told["detail"], told["message"], told["limit"]) == (code, "so it is", "so it is", 5)
    assert told["title"] == HTTPStatus(answer.status_code).phrase


def test_what_nobody_expected_tells_nothing_of_itself() -> None:
    scope: Any = {"type": "http", "path": "/x"}
    asked: Request[Any, Any, Any] = Request(scope)
    answer = EXCEPTION_HANDLERS[Exception](asked, ValueError("secret"))
    assert answer.status_code == 500
    assert b"secret" not in answer.content
    assert json.loads(answer.content)["code"] == "internal_error"


async def test_the_description_names_what_exists_and_nothing_else(node: Node) -> None:
    answer = await ask(node, "GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    paths = answer.json["paths"]
    assert set(paths) == {
        "/healthz", "/readyz", "/metrics", "/check", "/nodes", "/revocations",
        "/dead-letters", "/dead-letters/{id}", "/dead-letters/replay", "/dead-letters/purge",
        "/mailboxes", "/mailbox", "/mailbox/messages", "/mailbox/requeue",
        "/sessions", "/sessions/{id}", "/actor", "/messages", "/presence",
    }  # fmt: skip
    for path, methods in paths.items():
        for method in methods:
            told = await ask(node, method.upper(), path.replace("{id}", "nobody"))
            assert told.status != 405
            assert told.status != 404 or "at this path" not in told.json["detail"]


async def test_the_description_says_what_a_call_takes_and_that_errors_are_problems(node: Node) -> None:
    document = (await ask(node, "GET", "/openapi.json")).json
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], f"{method} {path}"
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
            assert "400" not in operation["responses"]
    query = {one["name"]: one for one in document["paths"]["/dead-letters"]["get"]["parameters"]}
    assert set(query) == {"id", "address", "sender", "state", "reason", "type", "since", "until", "limit", "cursor"}
    assert (query["limit"]["schema"]["maximum"], query["limit"]["schema"]["default"]) == (1000, 100)
    assert (query["state"]["schema"]["enum"][0], query["address"]["required"]) == ("dropped", False)
    body = document["paths"]["/dead-letters/replay"]["post"]["requestBody"]
    assert body == {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Replay"}}},
        "required": True,
    }
    assert set(document["components"]["schemas"]["Replay"]["properties"]) == {"keys", "where", "all", "limit", "to"}
    assert _references(document) <= {
        f"#/components/{kind}/{name}" for kind, named in document["components"].items() for name in named
    }


def _references(value: Any) -> set[str]:
    if isinstance(value, list):
        return {found for one in value for found in _references(one)}
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own | {found for one in value.values() for found in _references(one)}
    return set()
