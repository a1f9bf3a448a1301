"""What an actor asks the router itself: that it is there, its status, and who else is there.

heartbeat {} · status {"status"} ─► its session      presence · watch · unwatch {"actors"} ─► core/watching.py
An endpoint with a route of its own for such a name keeps it: then it is a message like any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from smart_router.core.endpoints import Endpoint
from smart_router.core.presence import MAX_ASKED
from smart_router.core.router import Reply
from smart_router.core.services import Core
from smart_router.core.sessions import Session
from smart_router.core.sight import check_sight
from smart_router.errors import Refused, RouterError
from smart_router.gateways.actor_data import Status, nack_of, read_actors, read_argument
from smart_router.gateways.actor_marks import FORM, reply_of, say

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
        return name in _ASKED or name in FORM

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
        if name in FORM:
            await say(core.feedback.marks, session, name, args)
            return b"{}"
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

    def answered(
        self,
        session: Session,
        ack_id: int,
        args: Sequence[msgspec.Raw],
        attachments: tuple[bytes, ...],
        run: Callable[[Awaitable[None]], None],
    ) -> None:
        """The application's answer to a delivery, which may hold its reply. `run`: what takes longer, in a task."""
        if (reply := reply_of(args)) is not None:
            waits = self._replied(session, ack_id, reply, attachments)
            if waits is not None:
                run(waits)
        self._core.delivery.answered(session, ack_id, nack_of(args))

    def _replied(
        self, session: Session, ack_id: int, reply: bytes, attachments: tuple[bytes, ...]
    ) -> Awaitable[None] | None:
        try:
            if attachments:
                raise Refused("unsupported", "A reply has no binary parts.")
            waits = self._core.feedback.marks.acknowledged(session, ack_id, reply)
        except RouterError as error:
            session.link.fail(error)
            return None
        return _told(session, waits) if waits is not None else None


async def _told(session: Session, waits: Awaitable[None]) -> None:
    try:
        await waits
    except RouterError as error:
        session.link.fail(error)
