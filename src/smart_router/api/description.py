"""The OpenAPI document: what Litestar says of the routes, with our queries, bodies and errors.

A route says by `opt` what it reads itself: {"query": Struct, "body": Struct, "headers": {name: text}}.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from smart_router.errors import CODES

__all__ = ["describe"]

_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "#/components/responses/Problem"


class Problem(msgspec.Struct, frozen=True):
    """What went wrong (RFC 9457). `code` is ours; `temporary`: the same may work later, unchanged."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    temporary: bool


def describe(routes: list[HTTPRouteHandler]) -> bytes:
    """As JSON."""
    token = SecurityScheme(type="http", scheme="bearer", description="Where authentication is on.")
    config = OpenAPIConfig(
        title="Smart Router",
        version=version("smart-router"),
        path="/openapi",
        use_handler_docstrings=True,
        components=Components(security_schemes={"token": token}),
    )
    described = Litestar(routes, openapi_config=config, logging_config=None, debug=False)
    document = described.openapi_schema.to_schema()
    schemas = document["components"].setdefault("schemas", {})
    _add_problem(document, schemas)
    for handler in routes:
        for path in handler.paths:
            operations = document["paths"][path.replace(":str}", "}")]
            for method in handler.http_methods:
                _finish(operations[method.lower()], handler.opt, schemas)
    return msgspec.json.encode(document)


def _add_problem(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    _schema(Problem, schemas)
    schemas["Problem"]["properties"]["code"]["enum"] = sorted(CODES)
    content = {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
    document["components"]["responses"] = {"Problem": {"description": "It was refused.", "content": content}}


def _finish(operation: dict[str, Any], opt: dict[str, Any], schemas: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("400", None)  # Litestar's own form of an error, which nobody gets
    responses["default"] = {"$ref": _PROBLEM}
    if (query := opt.get("query")) is not None:
        operation["parameters"] = [*operation.get("parameters", []), *_parameters(query)]
    for name, text in opt.get("headers", {}).items():
        header = {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        operation["parameters"] = [*operation.get("parameters", []), header]
    if (body := opt.get("body")) is not None:
        content = {"application/json": {"schema": _schema(body, schemas)}}
        operation["requestBody"] = {"content": content, "required": True}


def _schema(type_: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([type_], ref_template=_REFERENCE)
    schemas.update(components)
    return schema


def _parameters(query: type[Any]) -> list[dict[str, Any]]:
    own: dict[str, Any] = {}
    _schema(query, own)
    described = own[query.__name__]
    return [
        {"name": name, "in": "query", "required": name in described.get("required", ()), "schema": _plain(schema)}
        for name, schema in described["properties"].items()
    ]


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A value that may be left out is not one that may be null."""
    given = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    return {**given[0], **({"default": schema["default"]} if schema.get("default") is not None else {})}
