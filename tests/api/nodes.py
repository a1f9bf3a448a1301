"""A whole node in the test's own loop, and plain HTTP requests to it."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from smart_router.app import Node, SmartRouter
from smart_router.config.load import endpoint_settings
from smart_router.config.schema import AuthSettings, ServerSettings, Settings, TokenSettings

__all__ = ["ADMIN", "AUTH", "MONITOR", "NOBODY", "Answer", "ask", "bearer", "running", "settings_of"]

ADMIN = "admin-token-0123456789"
MONITOR = "monitor-token-0123456789"
NOBODY = "nobody-token-0123456789"
AUTH = AuthSettings(
    tokens=[
        TokenSettings(token=ADMIN, subject="root", scope="admin"),
        TokenSettings(token=MONITOR, subject="watcher", scope="monitor"),
        TokenSettings(token=NOBODY, subject="ui/456/nobody"),
    ]
)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def settings_of(data: Path, auth: AuthSettings | None = None, *, static: Path | None = None) -> Settings:
    endpoints = [
        endpoint_settings("agent/{id}", sub_endpoints=["456"], mailbox="actor+endpoint"),
        endpoint_settings("ui/{id}", sub_endpoints=["456"]),
    ]
    return Settings(
        server=ServerSettings(port=0, static=str(static) if static else None),
        endpoints={endpoint.name: endpoint for endpoint in endpoints},
        auth=auth or AuthSettings(),
        data=str(data),
    )


@contextlib.asynccontextmanager
async def running(settings: Settings, app: SmartRouter | None = None) -> AsyncIterator[Node]:
    node = Node(settings, app)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


async def ask(
    node: Node, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """One request on a connection of its own; `path` goes out as it is."""
    return await asyncio.to_thread(_ask, node.addresses[0], method, path, dict(headers or {}), body)


def _ask(address: tuple[str, int], method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
