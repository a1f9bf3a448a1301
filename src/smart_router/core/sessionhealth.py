"""Heartbeats: whether a session's client is still heard, and for how long its registration holds.

any activity ──► active_at      looked at when the next heartbeat is late, or the lease may have ended: no timer more
1 missed: degraded ── 3 missed: unhealthy ── heard again: recovering ── and again: healthy
nothing for a whole lease ──► expired: given nothing, for others it is not there ── heard again ──► registered again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from smart_router.core.events import Events
from smart_router.core.registration import read_status
from smart_router.core.sessions import Session
from smart_router.errors import RouterError

if TYPE_CHECKING:
    from smart_router.core.delivery import Delivery

__all__ = ["DEGRADED", "HEALTHY", "RECOVERING", "UNHEALTHY", "HeartbeatStatistics", "Heartbeats"]

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"
RECOVERING: Final = "recovering"

_log = structlog.get_logger("smart_router.delivery")
_UNHEALTHY_AFTER: Final = 3
_LATE: Final = 0.5  # of an interval; a heartbeat that is later than that counts as missed


class HeartbeatStatistics(NamedTuple):
    expired: int  # registrations whose lease ended
    registered_again: int
    unhealthy: int  # times that a session became it


class Heartbeats:
    """Of all sessions here. By the monotonic clock: one that jumps expires nothing."""

    def __init__(self, delivery: Delivery, events: Events) -> None:
        self._delivery = delivery
        self._events = events
        self._watch = delivery.watch
        self._now = delivery.clock.monotonic
        self._returning: set[Session] = set()
        self._expired = self._again = self._unhealthy = 0

    def start(self, session: Session) -> None:
        """Its connection is there: from now on heartbeats are expected."""
        session.active_at = self._now()
        session.missed = 0
        self._plan(session)
        self._watch(session)

    def heard(self, session: Session) -> None:
        """Its client lives: a message, an answer, a pong, a heartbeat."""
        session.active_at = self._now()
        if session.unwell:
            self._recover(session)

    def set_status(self, session: Session, status: object) -> None:
        """What the client says of itself from now on. Raises Refused."""
        wanted = read_status(status)
        if wanted != session.registration.status:
            session.registration = session.registration.with_status(wanted)
            if not session.expired:
                self._delivery.elsewhere.changed(session)

    def check(self, session: Session, now: float) -> None:
        """`session.beat_at` has come."""
        silent = now - session.active_at
        if silent >= session.registration.lease:
            self._suspend(session)
            return
        missed = max(0, int(silent / session.beat_every - _LATE)) if session.beat_every else 0
        if missed != session.missed:
            session.missed = missed
            if missed:
                self._become(session, UNHEALTHY if missed >= _UNHEALTHY_AFTER else DEGRADED)
        self._plan(session)

    def _suspend(self, session: Session) -> None:
        """Its lease has ended, its connection stays: what comes waits, or goes to its actor's other sessions."""
        self._expired += 1
        session.expired = session.unwell = True
        session.waiting_for = set()
        session.beat_at = session.barrier_at = session.takeover_at = None
        session.late = False
        self._delivery.withdraw(session)
        self._delivery.sessions.suspend(session)
        self._events.emit("session.expired", actor_id=session.actor, session_id=session.id)

    def _register(self, session: Session) -> None:
        if session not in self._returning and not session.closed:
            self._returning.add(session)
            self._delivery.holdings.run(self._return(session), f"registration of {session.id}")

    async def _return(self, session: Session) -> None:
        session.since = self._delivery.clock.wall_ms()
        try:
            await self._delivery.attach(session)
        except RouterError as error:  # its next heartbeat tries again
            _log.warning("session_not_registered_again", actor=session.actor, code=error.code)
        finally:
            self._returning.discard(session)

    def again(self, session: Session) -> None:
        """It has registered again."""
        self._again += 1
        session.expired = False
        session.missed = 0
        session.health = HEALTHY
        session.unwell = False

    def _recover(self, session: Session) -> None:
        if session.expired:
            self._register(session)
            return
        session.missed = 0
        self._become(session, RECOVERING if session.health == UNHEALTHY else HEALTHY)
        self._plan(session)
        self._watch(session)

    def _become(self, session: Session, health: str) -> None:
        if session.health == health:
            return
        session.health = health
        session.unwell = health != HEALTHY
        self._unhealthy += health == UNHEALTHY
        self._events.emit(
            "session.health", actor_id=session.actor, session_id=session.id, health=health, missed=session.missed
        )
        self._delivery.elsewhere.changed(session)

    @staticmethod
    def _plan(session: Session) -> None:
        """The next look: never later than something can have changed."""
        next_at = session.active_at + session.registration.lease
        if session.beat_every and session.missed < _UNHEALTHY_AFTER:
            next_at = min(next_at, session.active_at + (session.missed + 1 + _LATE) * session.beat_every)
        session.beat_at = next_at

    def statistics(self) -> HeartbeatStatistics:
        return HeartbeatStatistics(self._expired, self._again, self._unhealthy)
