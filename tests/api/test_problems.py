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
    assert set(paths) == {"/healthz", "/readyz", "/metrics", "/check", "/nodes", "/revocations"}
    for path, methods in paths.items():
        for method in methods:
            assert (await ask(node, method.upper(), path)).status not in (404, 405)
