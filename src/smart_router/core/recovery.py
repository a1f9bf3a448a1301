"""Sessions whose connection is lost, kept for a while so that their client can go on where it was.

live ──lost──► parked ──pid, offset──► live again: up to the offset confirmed, then the rest
                 └── window over, a newer session, something dropped ──► back into the mailbox
"""

from __future__ import annotations

from typing import NamedTuple

from smart_router.brokers.base import Broker, Entry
from smart_router.clock import Deadlines
from smart_router.core.attempts import Attempts
from smart_router.core.mailbox import Holdings
from smart_router.core.sessions import Session, Sessions

__all__ = ["Recovery", "Resumed"]


class Resumed(NamedTuple):
    """What a recovered session had in flight: what its client has, by its offset, and what it has not."""

    confirmed: list[Entry]
    rest: list[Entry]


class Recovery:
    """DESIGN, Guarantees, resume. Parked sessions stay among their actor's; they are given nothing."""

    def __init__(
        self, broker: Broker, sessions: Sessions, holdings: Holdings, attempts: Attempts, deadlines: Deadlines
    ) -> None:
        self._broker = broker
        self._sessions = sessions
        self._holdings = holdings
        self._attempts = attempts
        self._deadlines = deadlines
        self.recovered = 0
        self.missed = 0
        """Clients with a `pid` that could not be taken up again."""

    def park(self, session: Session) -> None:
        """Keeps what was in flight from the actor's own mailbox; what is a shared one's goes back."""
        own = [held for held in session.held if held.address == session.actor]
        shared = [held for held in session.held if held.address != session.actor]
        numbered = list(enumerate(session.inflight, session.confirmed + 1))
        session.parked = [(number, entry) for number, entry in numbered if entry.address == session.actor]
        back = [entry for _, entry in numbered if entry.address != session.actor]
        back += session.take_pending()
        session.inflight = []
        session.bytes = 0
        session.ready = False
        session.barrier_at = None
        for held in shared:
            held.sessions.remove(session)
        self._attempts.given_back(back, client=session.ack == "client")
        for held in own:
            held.hold_back(self._broker)
        self._holdings.let_go(shared)
        for held in shared:
            held.refill()
        session.held = own
        self.wait(session)

    def wait(self, session: Session) -> None:
        """For its client, as long as the recovery window."""
        session.beat_at = None
        session.parked_until = self._deadlines.clock.monotonic() + session.endpoint.settings.recovery_window
        self._deadlines.watch(session)

    def find(self, pid: str) -> Session | None:
        """The session that a client with this `pid` may take up again."""
        session = self._sessions.of_pid(pid)
        return session if session is not None and session.recoverable and not session.closed else None

    async def resume(self, session: Session, offset: int) -> Resumed | None:
        """Ready to go on with the new `link`. None: the session has ended meanwhile. Raises StorageError, Refused."""
        if session.parked_until is None:
            self.park(session)
        session.parked_until = None
        if session.endpoint.shared_mailbox:
            held = await self._holdings.shared(session.place.address, session.endpoint)
            if session.closed:
                self._holdings.give_up([held])
                return None
            held.join(session)
            session.held = [*session.held, held]
        confirmed = [entry for number, entry in session.parked if number <= offset]
        rest = [entry for number, entry in session.parked if number > offset]
        session.parked = []
        session.confirmed = session.written
        session.full = session.late = False
        session.ready = True
        self.recovered += 1
        return Resumed(confirmed, rest)

    def forget(self, address: str) -> None:
        """Something of this mailbox was dropped: who is away can't take up again without a gap."""
        for session in self._sessions.of_actor(address):
            if session.parked_until is not None:
                session.recoverable = False
