"""The bot of the very node that runs it: found over the node's own port, as any other actor would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smart_router.config.schema import Settings
from smart_router.demo.bot import ACTOR, run_bot

__all__ = ["own_url", "run_bot_of_node"]

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (looked up, not listened on)


async def run_bot_of_node(settings: Settings, addresses: Sequence[tuple[str, int]]) -> None:
    """`run_bot` until cancelled. Where authentication is on: with the static token whose subject is `agent/456/bot`."""
    token = next((one.token for one in settings.auth.tokens if one.subject == ACTOR), None)
    await run_bot(own_url(settings, addresses), token)


def own_url(settings: Settings, addresses: Sequence[tuple[str, int]]) -> str:
    """Of the node's first plain gateway. `addresses`: (host, port) that it listens on."""
    listening, port = addresses[0]
    host = _LOOPBACK.get(listening, listening)
    path = next((gateway.path for gateway in settings.server.gateways if gateway.kind == "plain"), "/ws")
    scheme = "ws" if settings.server.tls is None else "wss"
    return f"{scheme}://[{host}]:{port}{path}" if ":" in host else f"{scheme}://{host}:{port}{path}"
