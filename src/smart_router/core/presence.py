"""Whether an actor is there: derived from its live sessions on all nodes.

a session that is active ─► online, else idle, else away      only unhealthy or lost ones ─► unreachable
the last one gone ─► as before, for the endpoint's `presence_grace` ─► offline, with when it was last seen
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.core.endpoints import Endpoints
from smart_router.core.sessionhealth import UNHEALTHY
from smart_router.directory.base import Directory, SessionRecord

__all__ = ["MAX_ASKED", "MAX_SEEN", "OFFLINE", "UNREACHABLE", "Look", "Presence", "Presences", "presence_of"]

OFFLINE: Final = "offline"
UNREACHABLE: Final = "unreachable"

MAX_ASKED: Final = 1000
"""Actors of one question."""

MAX_SEEN: Final = 100_000
"""Actors without a session of which a node remembers when they were last seen; the longest gone are forgotten first."""

_TOPIC: Final = "seen"
_OF_STATUS: Final = {"active": "online", "idle": "idle", "away": "away"}
_ORDER: Final = ("online", "idle", "away", UNREACHABLE)
_BATCH: Final = 5000


class Presence(msgspec.Struct, frozen=True):
    """`last_seen`: when its last session ended (ms since 1970 UTC); None: it has one, or nobody remembers."""

    actor: str
    presence: str
    last_seen: int | None = None


class Look(NamedTuple):
    """What is seen now, and when (monotonic) it has to be looked at again, because time alone will change it."""

    presence: Presence
    again_at: float | None


class _Seen(NamedTuple):
    presence: str
    at: int
    until: float


class _Gone(NamedTuple):
    """As it is told to other nodes: `grace` seconds from now it counts as it did."""

    actor: str
    presence: str
    at: int
    grace: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[_Gone]).decode


def presence_of(sessions: Iterable[SessionRecord]) -> str:
    """The best of them; "" without any."""
    found = {_of_session(session) for session in sessions}
    return next((presence for presence in _ORDER if presence in found), "")


def _of_session(session: SessionRecord) -> str:
    state = session.state
    if state.parked or state.health == UNHEALTHY:
        return UNREACHABLE
    return _OF_STATUS.get(state.status, UNREACHABLE)


class Presences:
    """Of all actors, on whichever node their sessions are. Who was last seen when is kept in memory only."""

    def __init__(self, directory: Directory, endpoints: Endpoints, bus: Bus, clock: Clock) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._bus = bus
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._gone: list[_Gone] = []
        bus.listen(_TOPIC, self._heard)

    def longest_grace(self) -> float:
        return max((endpoint.settings.presence_grace for endpoint in self._endpoints), default=0.0)

    def __len__(self) -> int:
        """Actors that are remembered as gone."""
        return len(self._seen)

    async def of(self, actor: str) -> Presence:
        """Raises BrokerAway."""
        return (await self.look(actor)).presence

    async def of_many(self, actors: Sequence[str]) -> list[Presence]:
        """In their order. Raises BrokerAway."""
        return [look.presence for look in await self.look_at(actors)]

    async def look_at(self, actors: Sequence[str]) -> list[Look]:
        return list(await asyncio.gather(*map(self.look, actors)))

    async def look(self, actor: str) -> Look:
        presence = presence_of(await self._directory.of_actor(actor))
        if presence:
            return Look(Presence(actor, presence), None)
        seen = self._seen.get(actor)
        if seen is None:
            return Look(Presence(actor, OFFLINE), None)
        if seen.until > self._clock.monotonic():
            return Look(Presence(actor, seen.presence), seen.until)
        return Look(Presence(actor, OFFLINE, seen.at), None)

    def missing(self, actor: str, presence: str) -> float:
        """It is gone without that anybody saw its last session end: from now on it was `presence` until now.

        Until when (monotonic) it counts as that.
        """
        target = self._endpoints.own(actor)
        grace = target.endpoint.settings.presence_grace if target is not None else 0.0
        gone = _Gone(actor, presence, self._clock.wall_ms(), grace)
        self._note(gone)
        self._bus.publish(_TOPIC, _encode([gone]))
        return self._seen[actor].until

    def lost(self, session: SessionRecord) -> None:
        """It is gone: if it was its actor's last, the actor was as it said until now."""
        endpoint = self._endpoints.get(session.endpoint)
        grace = endpoint.settings.presence_grace if endpoint is not None else 0.0
        gone = _Gone(session.actor, _of_session(session), self._clock.wall_ms(), grace)
        self._note(gone)
        if session.node == self._bus.node and not self._directory.follows_sessions:
            if not self._gone:
                asyncio.get_running_loop().call_soon(self._tell)
            self._gone.append(gone)

    def _tell(self) -> None:
        """Where nodes do not follow each other's sessions."""
        gone, self._gone = self._gone, []
        for start in range(0, len(gone), _BATCH):
            self._bus.publish(_TOPIC, _encode(gone[start : start + _BATCH]))

    def _heard(self, node: str, data: bytes) -> None:
        for gone in _decode(data):
            self._note(gone)

    def _note(self, gone: _Gone) -> None:
        seen = self._seen
        seen.pop(gone.actor, None)  # so that the latest is the last
        seen[gone.actor] = _Seen(gone.presence, gone.at, self._clock.monotonic() + gone.grace)
        if len(seen) > MAX_SEEN:
            del seen[next(iter(seen))]
