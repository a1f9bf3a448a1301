"""What an actor asks the router itself: that it is there, its status, and who else is there.

heartbeat {} · status {"status"} ─► its session      presence · watch · unwatch {"actors"} ─► core/watching.py
An endpoint with a route of its own for such a name keeps it: then it is a message like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from smart_router.core.endpoints import Endpoint
from smart_router.core.services import Core
from smart_router.core.sessions import Session
from smart_router.gateways.actor_data import Status, read_argument

__all__ = ["ActorEvents"]

_HANDSHAKE: Final = frozenset({"iam", "refresh"})
_EVENTS: Final = frozenset({"heartbeat", "status"})


class ActorEvents:
    """Of all actors' sockets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._names = {
            endpoint.name: _HANDSHAKE | (_EVENTS - core.router.routes.of(endpoint.name).keys())
            for endpoint in core.endpoints
        }

    def names(self, endpoint: Endpoint) -> frozenset[str]:
        """The events that are no messages there."""
        return self._names[endpoint.name]

    def handle(self, session: Session, name: str, args: Sequence[msgspec.Raw]) -> None:
        """Raises Refused."""
        if name == "status":
            status = read_argument(args, Status, '{"status": "active", "idle" or "away"}').status
            self._core.delivery.heartbeats.set_status(session, status)
