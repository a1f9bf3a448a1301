"""Is it alive, is it ready, what went wrong since the last check (specs: actor routing, Health)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import HttpMethod, Request, Response, post, route
from litestar.handlers import HTTPRouteHandler

from smart_router.api.caller import Callers
from smart_router.core.services import Core

__all__ = ["Checked", "CheckedEntry", "Readiness", "health_routes"]


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """`reasons`: why not; `message`: the same in one line."""

    ready: bool
    reasons: list[str] = []
    message: str = ""


class CheckedEntry(msgspec.Struct, frozen=True):
    """`level`: ok, warning or error. `at`: ms since 1970 UTC."""

    level: str
    message: str
    at: int


class Checked(msgspec.Struct, frozen=True):
    entries: list[CheckedEntry]


def health_routes(core: Core, callers: Callers, ready: Callable[[], list[str]]) -> list[HTTPRouteHandler]:
    @route("/healthz", http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
    async def healthz() -> dict[str, str]:
        """200 as long as the process serves."""
        return {"status": "alive"}

    @route("/readyz", http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
    async def readyz() -> Response[Readiness]:
        """200 when the node takes clients and messages, 503 with the reasons when it does not."""
        reasons = ready()
        if not reasons:
            return Response(Readiness(ready=True))
        return Response(Readiness(ready=False, reasons=reasons, message="; ".join(reasons)), status_code=503)

    @post("/check", status_code=200, security=[{"token": []}])
    async def check(request: Request[Any, Any, Any]) -> Checked:
        """The warnings and errors since the last check, which forgets them; one `ok` entry if there were none.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        return Checked([CheckedEntry(*entry) for entry in core.health.check()])

    return [healthz, readyz, check]
