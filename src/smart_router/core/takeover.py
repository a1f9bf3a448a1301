"""A newer session of an actor: older ones confirm what they have within a second, or it goes to the newer one first.

newer session here ─────► older ones are pinged ─ all answered, or 1 s ─► the newer one is given what waits
     …on another node ──► idem                  ──────────────────────► the mailbox is passed on to its node
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smart_router.brokers.base import Broker
from smart_router.clock import Deadlines
from smart_router.core.mailbox import Held, Holdings
from smart_router.core.sessions import Session, Sessions

__all__ = ["TakeOvers"]

_PATIENCE: Final = 1.0  # s an older session has to confirm before its messages go to the newer one


class _Claim:
    """An owner for clock.Deadlines: a mailbox that another node waits for, and the sessions here that still have some.

    `keep`: a session here has answered and goes on with what it has (`ack = "client"`).
    """

    __slots__ = ("_on_timer", "deadline", "held", "keep", "queued", "waiting_for")

    def __init__(self, held: Held, deadline: float, on_timer: Callable[[_Claim], None]) -> None:
        self.held = held
        self.deadline: float | None = deadline
        self.queued: float | None = None
        self.waiting_for: set[Session] = set()
        self.keep = False
        self._on_timer = on_timer

    def handle_timer(self, now: float) -> None:
        self._on_timer(self)


class TakeOvers:
    """Among the sessions of one actor, here and elsewhere. `detach`, `give_back`, `refill`: delivery's."""

    def __init__(self, broker: Broker, sessions: Sessions, holdings: Holdings, deadlines: Deadlines) -> None:
        self._broker = broker
        self._sessions = sessions
        self._holdings = holdings
        self._deadlines = deadlines
        self._now = deadlines.clock.monotonic
        self.claims: dict[str, _Claim] = {}
        self.detach: Callable[[Session], None]
        self.give_back: Callable[[Session], None]
        self.refill: Callable[[Session], None]

    def arrive(self, session: Session) -> None:
        """A newer session here."""
        claim = self.claims.pop(session.actor, None)
        if claim is not None:  # newer than the one elsewhere that it was for, which stands in line for it
            claim.deadline = None
            self._pass_on(claim)
        for older in list(self._sessions.of_actor(session.actor)):
            if self._is_awaited(older):
                session.waiting_for.add(older)
        if session.waiting_for:
            session.takeover_at = self._now() + _PATIENCE
            for held in session.held:
                held.hold_back(self._broker)  # what older ones give back goes first

    def claim(self, actor: str) -> None:
        """A newer session on another node; what this one holds of the actor's own mailbox goes there."""
        held = self._holdings.get(actor)
        if held is None or not held.policy.exclusive or held.subscription is None or actor in self.claims:
            return
        claim = self.claims[actor] = _Claim(held, self._now() + _PATIENCE, self._end_claim)
        held.paused = True
        held.hold_back(self._broker)
        claim.waiting_for = {older for older in list(self._sessions.of_actor(actor)) if self._is_awaited(older)}
        if claim.waiting_for:
            self._deadlines.watch(claim)
        else:
            self._end_claim(claim)

    def _is_awaited(self, older: Session) -> bool:
        """A parked one goes at once; a live one with something in flight is pinged, and has its second."""
        older.recoverable = False  # from now on another session is given what comes
        if older.parked_until is not None:
            older.parked_until = None
            self.detach(older)
            return False
        if not older.in_flight or older.endpoint.settings.deliver == "any":
            return False
        older.link.barrier()
        return True

    def alive(self, older: Session) -> None:
        """It has answered its ping: newer ones go on. What it keeps (client mode) holds up those with a window of 1."""
        waits = older.window == 1 and older.in_flight
        for mate in self._mates(older):
            if not waits:
                self._go_on(mate, older)
            elif older in mate.waiting_for:
                mate.takeover_at = None
        claim = self.claims.get(older.actor)
        if claim is None or older not in claim.waiting_for:
            return
        if waits:
            claim.deadline = None
        else:
            claim.keep = claim.keep or older.in_flight > 0
            self._settle_claim(claim, older)

    def settle(self, older: Session) -> None:
        """Newer ones go on if it holds nothing more."""
        if not older.in_flight:
            self.gone(older)

    def gone(self, older: Session) -> None:
        """Nobody waits for it any more."""
        for mate in self._mates(older):
            self._go_on(mate, older)
        claim = self.claims.get(older.actor)
        if claim is not None:
            self._settle_claim(claim, older)

    def _go_on(self, session: Session, older: Session) -> None:
        if older in session.waiting_for:
            session.waiting_for.discard(older)
            if not session.waiting_for:
                session.takeover_at = None
                self.refill(session)

    def end(self, session: Session) -> None:
        """The second is over: what older ones have not confirmed goes to `session`."""
        session.takeover_at = None
        older, session.waiting_for = session.waiting_for, set()
        for other in older:
            self.give_back(other)
            self.settle(other)
        self.refill(session)

    def _settle_claim(self, claim: _Claim, older: Session) -> None:
        claim.waiting_for.discard(older)
        if not claim.waiting_for:
            self._end_claim(claim)

    def _end_claim(self, claim: _Claim) -> None:
        if self.claims.get(claim.held.address) is claim:
            del self.claims[claim.held.address]
            self._pass_on(claim)

    def _pass_on(self, claim: _Claim) -> None:
        for other in claim.waiting_for:
            self.give_back(other)
        claim.deadline = None
        self._holdings.pass_on(claim.held, keep=claim.keep)

    def _mates(self, session: Session) -> list[Session]:
        return [other for other in self._sessions.of_actor(session.actor) if other is not session]
