"""The HTTP API of a node, an ASGI application without a life of its own: what it shows is the core's.

request ─► Litestar ─┬─ /healthz /readyz /metrics /check /nodes /revocations /openapi.json
                     ├─ /dead-letters /mailboxes /mailbox /sessions /actor /messages /presence
                     └─ every other path: a file read at the start, or 404
whatever goes wrong ─► application/problem+json
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from litestar import Litestar
from litestar.datastructures import ResponseHeader

from smart_router.api.caller import Callers
from smart_router.api.dead_letters import dead_letter_routes
from smart_router.api.description import describe
from smart_router.api.files import file_routes, read_folder
from smart_router.api.health import health_routes
from smart_router.api.mailboxes import mailbox_routes
from smart_router.api.messages import message_routes
from smart_router.api.metrics import metrics_routes
from smart_router.api.nodes import node_routes
from smart_router.api.presence import presence_routes
from smart_router.api.problems import EXCEPTION_HANDLERS, SAFE_HEADERS
from smart_router.api.revocations import revocation_routes
from smart_router.api.sessions import session_routes
from smart_router.core.services import Core
from smart_router.errors import Refused

__all__ = ["AsgiApplication", "create_api"]

AsgiApplication = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]
Parts = Callable[[], list[tuple[str, Any]]]

MAX_BODY: Final = 65_536
"""Bytes of a request body that are read; what is asked for here is small."""


def create_api(
    core: Core,
    *,
    parts: Parts,
    ready: Callable[[], list[str]],
    static: Path | None = None,
    page: Mapping[str, bytes] | None = None,
) -> AsgiApplication:
    """`parts`: (name, statistics) of every part of the node. `ready`: why it takes no clients; empty: it does.

    `static`: a folder served under `/`. `page`: more files by path without the first slash (`index.html` is `/` too);
    of the same name, the folder's is served. Both are read here, once. ConfigError: the folder cannot be served.
    """
    callers = Callers(core)
    routes = [
        *health_routes(core, callers, ready),
        *metrics_routes(callers, parts, ready),
        *node_routes(core, callers),
        *revocation_routes(core, callers),
        *dead_letter_routes(core, callers),
        *mailbox_routes(core, callers),
        *session_routes(core, callers),
        *message_routes(core, callers),
        *presence_routes(core, callers),
    ]
    files = {**(page or {}), **(read_folder(static) if static is not None else {}), "openapi.json": describe(routes)}
    api = Litestar(
        [*routes, *file_routes(files)],
        exception_handlers=EXCEPTION_HANDLERS,
        response_headers=[ResponseHeader(name=name, value=value) for name, value in SAFE_HEADERS.items()],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=MAX_BODY,
        debug=False,
    )

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async def receive_all() -> Any:
            """A client that goes away within its body is its own fault, and none of ours to log."""
            event = await receive()
            if event["type"] == "http.disconnect":
                raise Refused("bad_message", "The body has ended too early.")
            return event

        await api(scope, receive_all, send)

    return serve
