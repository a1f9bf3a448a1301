"""What programs ask of the router: who is there, and a message for somebody (specs: mailbox routing, API)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from smart_router.brokers.base import PutResult
from smart_router.core.actions import rest_of
from smart_router.core.presence import OFFLINE, UNREACHABLE, Presence
from smart_router.core.sight import check_actors
from smart_router.directory.base import SessionRecord
from smart_router.errors import Refused

if TYPE_CHECKING:
    from smart_router.core.services import Core

__all__ = ["RouterApi"]

_encode: Final = msgspec.json.Encoder().encode


class RouterApi:
    """Of all nodes. Every call raises BrokerAway while the directory is, and Refused for what can be no actor."""

    core: Core
    """Set when all parts are there."""

    async def get_sessions(self, actor_id: str) -> list[SessionRecord]:
        """All its live sessions, on whichever node, oldest first."""
        check_actors(self.core.endpoints, [actor_id])
        return await self.core.installation.directory.of_actor(actor_id)

    async def get_session(self, actor_id: str) -> SessionRecord | None:
        """The one that would be given the next message of the actor's own mailbox: the newest that is connected."""
        connected = [one for one in await self.get_sessions(actor_id) if not one.state.parked]
        return connected[-1] if connected else None

    async def get_presence(self, actor_id: str) -> Presence:
        check_actors(self.core.endpoints, [actor_id])
        return await self.core.watching.presences.of(actor_id)

    async def is_online(self, actor_id: str) -> bool:
        """Somebody is heard there, be it active, idle or away."""
        return (await self.get_presence(actor_id)).presence not in (OFFLINE, UNREACHABLE)

    async def update_session_activity(self, actor_id: str, session_id: str | None = None) -> int:
        """A heartbeat of the actor's sessions on this node, or of that one; how many there were."""
        check_actors(self.core.endpoints, [actor_id])
        heartbeats = self.core.delivery.heartbeats
        found = [one for one in self.core.sessions if one.actor == actor_id and session_id in (None, one.id)]
        for session in found:
            heartbeats.heard(session)
        return len(found)

    async def queue_message_for_offline(self, message: Mapping[str, Any], actor_id: str, *, type: str) -> str:
        """Puts it into the actor's own mailbox, from `router`, asking no session; its id, when it is safe there.

        `message`: as a sender's, `ids`, `metadata`, `payload`, own keys. Raises Refused, StorageError.
        """
        check_actors(self.core.endpoints, [actor_id])
        endpoint = self.core.endpoints.target(actor_id).endpoint
        fields = rest_of(_encode(message))
        if len(fields) >= endpoint.max_message_size:
            limit = endpoint.max_message_size
            raise Refused("too_large", f"The message is too large for {actor_id!r}: {limit} bytes.", limit=limit)
        entry = self.core.feedback.own.entry(actor_id, type, fields)
        done: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        self.core.feedback.own.put([entry], lambda result: None if done.done() else done.set_result(result))
        refused = (await done).refused
        if refused:
            raise refused[actor_id]
        return entry.message.id
