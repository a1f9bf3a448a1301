"""What an actor asks the router itself: that it is there, its status, and who else is there.

heartbeat {} · status {"status"} ─► its session      presence · watch · unwatch {"actors"} ─► core/watching.py
An endpoint with a route of its own for such a name keeps it: then it is a message like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from smart_router.core.endpoints import Endpoint
from smart_router.core.presence import MAX_ASKED
from smart_router.core.router import Reply
from smart_router.core.services import Core
from smart_router.core.sessions import Session
from smart_router.core.sight import check_sight
from smart_router.errors import RouterError
from smart_router.gateways.actor_data import Status, read_actors, read_argument

__all__ = ["ActorEvents"]

_HANDSHAKE: Final = frozenset({"iam", "refresh"})
_SAID: Final = frozenset({"heartbeat", "status"})
_ASKED: Final = frozenset({"presence", "watch", "unwatch"})
_encode: Final = msgspec.json.Encoder().encode


class ActorEvents:
    """Of all actors' sockets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._names = {
            endpoint.name: _HANDSHAKE | (_SAID | _ASKED) - core.router.routes.of(endpoint.name).keys()
            for endpoint in core.endpoints
        }

    def names(self, endpoint: Endpoint) -> frozenset[str]:
        """The events that are no messages there."""
        return self._names[endpoint.name]

    @staticmethod
    def is_question(name: str) -> bool:
        """It is for `ask`, not for `tell`."""
        return name in _ASKED

    def tell(self, session: Session, name: str, args: Sequence[msgspec.Raw]) -> None:
        """Raises Refused."""
        if name == "status":
            status = read_argument(args, Status, '{"status": "active", "idle" or "away"}').status
            self._core.delivery.heartbeats.set_status(session, status)

    async def ask(self, session: Session, name: str, args: Sequence[msgspec.Raw], told: Reply | None) -> None:
        """Answers, if that was asked for; with `presence` and `watch`, who is there now."""
        try:
            answer = await self._answer(session, name, args)
        except RouterError as error:
            if told is None:
                session.link.fail(error)
                return
            answer = _encode({"error": error.as_dict()})
        if told is not None:
            told(answer)

    async def _answer(self, session: Session, name: str, args: Sequence[msgspec.Raw]) -> bytes:
        core = self._core
        watching = core.watching
        actors = read_actors(args, MAX_ASKED)
        if name == "unwatch":
            await watching.watches.unwatch(session.actor, actors)
            return b"{}"
        rules = core.rules.get(session.endpoint.name)
        check_sight(core.endpoints, rules, session.identity, session.actor, actors)
        if name == "watch":
            found = await watching.watch(session.actor, actors)
        else:
            found = await watching.presences.of_many(actors)
        return _encode({"presence": found})
