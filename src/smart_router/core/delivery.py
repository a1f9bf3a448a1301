"""From a held mailbox to a session's connection, and back: confirmation, or the mailbox again.

broker ─deliver─► Held ─► send ─► Link.deliver ─► wire
                            │
        received: a ping answered after it ─► confirm ─┐
        sent:     written                    ──────────┼─► broker.ack
        client:   the application's answer ─► answered ┘
        lost, refused, timed out ─► broker.release (in order, before what waits) ─► the next session, or a dead letter
"""

from __future__ import annotations

from typing import Final, NamedTuple

from smart_router.brokers.base import Broker, End, Entry
from smart_router.clock import Deadlines
from smart_router.core.attempts import Attempts
from smart_router.core.mailbox import Held, Holdings
from smart_router.core.reports import Reports
from smart_router.core.sessions import Session, Sessions
from smart_router.errors import Refused, RouterError

__all__ = ["Delivery", "DeliveryStatistics"]

_TAKEOVER: Final = 1.0  # s an older session has to confirm before its messages go to the newer one


class DeliveryStatistics(NamedTuple):
    sessions: int
    held: int
    delivered: int
    confirmed: int
    redelivered: int
    timed_out: int
    refused: int
    given_back: int
    recovered: int
    not_recovered: int
    unknown_answers: int


class Delivery:
    """All mailboxes this node holds and all sessions it serves."""

    def __init__(
        self, broker: Broker, sessions: Sessions, reports: Reports, attempts: Attempts, deadlines: Deadlines
    ) -> None:
        self.sessions = sessions
        self._broker = broker
        self._ends, self._events = reports.ends, reports.events
        self._attempts = attempts
        self._deadlines = deadlines
        self._now = deadlines.clock.monotonic
        self._holdings = Holdings(broker, self._send)
        attempts.again = self._refill
        self._redelivered = self._delivered = self._confirmed = self._timed_out = 0
        self._refused = self._given_back = self._recovered = self._not_recovered = self._unknown = 0

    # attaching and detaching

    async def attach(self, session: Session) -> None:
        """Subscribes the session's mailboxes, says hello, lets deliveries begin. Raises StorageError, Refused."""
        endpoint = session.endpoint
        helds: list[Held] = []
        if endpoint.own_mailbox:
            helds.append(await self._holdings.own(session.actor, endpoint))
        if endpoint.shared_mailbox:
            helds.append(await self._holdings.shared(session.place.address, endpoint))
        if session.closed:
            self._holdings.let_go(helds)
            return
        session.on_timer = self._on_timer
        self._take_over(session)
        self.sessions.add(session)
        for held in helds:
            held.sessions.append(session)
        session.held = helds
        session.ready = True
        session.link.hello(False)
        self._events.emit("session.registered", actor_id=session.actor, session_id=session.id)
        self._watch(session)
        self._refill(session)

    def detach(self, session: Session, *, resumable: bool = False) -> None:
        """The connection is gone. What is unconfirmed goes back, or is kept for a recovery (`resumable`)."""
        if session.closed:
            return
        if resumable and session.recoverable and session.ready and not self._mates(session):
            self._park(session)
            return
        session.closed = True
        session.ready = False
        for held in session.held:
            if session in held.sessions:
                held.sessions.remove(session)
        self._give_back(session)
        self.sessions.remove(session)
        for mate in self._mates(session):
            self._settled(mate, session)
        self._holdings.let_go(session.held)
        for held in session.held:
            held.refill()
        if session.held:
            self._events.emit("session.unregistered", actor_id=session.actor, session_id=session.id)
        session.held = []

    def end(self, session: Session, error: RouterError) -> None:
        """The session may not go on: told, cut; the mailbox stays."""
        if session.closed:
            return
        session.recoverable = False
        session.link.end(error)
        self.detach(session)

    def tell_sender(self, entry: Entry, code: str) -> None:
        """The broker refused a message whose sender asked for no acknowledgement: an `error` event, if it is here."""
        message = entry.message
        error = Refused(code, f"The message for {entry.address!r} was refused.", id=message.id, address=entry.address)
        for session in self.sessions.of_actor(message.sender)[-1:]:
            if session.parked_until is None:
                session.link.fail(error)

    def _mates(self, session: Session) -> list[Session]:
        return [other for other in self.sessions.of_actor(session.actor) if other is not session]

    def _give_back(self, session: Session) -> None:
        """All that the session has unconfirmed goes back, in the order it was written."""
        entries = [entry for _, entry in session.parked] + list(session.inflight)
        entries += [entry for entry, _ in session.pending.values()]
        session.parked = []
        session.inflight.clear()
        session.pending.clear()
        session.bytes = 0
        session.confirmed = session.written
        self._given_back += len(entries)
        self._attempts.given_back(entries, client=session.ack == "client")

    # several sessions of one actor

    def _take_over(self, session: Session) -> None:
        """Older sessions confirm what they have within a second, or it goes to the newer one first."""
        for older in list(self.sessions.of_actor(session.actor)):
            if older.parked_until is not None:
                older.parked_until = None
                older.recoverable = False
                self.detach(older)
            elif older.in_flight and older.endpoint.settings.deliver != "any":
                session.waiting_for.add(older)
                older.link.barrier()
        if session.waiting_for:
            session.takeover_at = self._now() + _TAKEOVER

    def _settled(self, session: Session, older: Session) -> None:
        if older in session.waiting_for:
            session.waiting_for.discard(older)
            if not session.waiting_for:
                session.takeover_at = None
                self._refill(session)

    # recovery

    def _park(self, session: Session) -> None:
        """Keeps what was in flight from the actor's own mailbox for a recovery; what is a shared one's goes back."""
        own = [held for held in session.held if held.address == session.actor]
        numbered = list(enumerate(session.inflight, session.confirmed + 1))
        session.parked = [(number, entry) for number, entry in numbered if entry.address == session.actor]
        shared = [entry for _, entry in numbered if entry.address != session.actor]
        shared += [entry for entry, _ in session.pending.values()]
        session.inflight.clear()
        session.pending.clear()
        session.bytes = 0
        session.ready = False
        session.barrier_at = None
        session.parked_until = self._now() + session.endpoint.settings.recovery_window
        for held in session.held:
            if held not in own:
                held.sessions.remove(session)
        self._attempts.given_back(shared, client=session.ack == "client")
        for held in own:
            self._broker.release(held.hold_back())
        self._holdings.let_go([held for held in session.held if held not in own])
        self._watch(session)

    def recoverable(self, pid: str) -> Session | None:
        """The session that a client with this `pid` may take up again."""
        session = self.sessions.of_pid(pid)
        return session if session is not None and session.recoverable and not session.closed else None

    async def recover(self, session: Session, offset: int) -> None:
        """Goes on where the client was: up to `offset` is confirmed, then hello, then the rest, to the new `link`."""
        if session.parked_until is None:
            self._park(session)
        session.parked_until = None
        rest = [entry for number, entry in session.parked if number > offset]
        done = [entry for number, entry in session.parked if number <= offset]
        session.parked = []
        session.confirmed = session.written
        self._broker.ack(done)
        self._confirmed += len(done)
        if session.endpoint.shared_mailbox:
            await self._join_shared(session)
        session.full = session.late = False
        session.ready = True
        session.link.hello(True)
        self._recovered += 1
        for entry in rest:
            entry.redelivered = True
            self._send(session, entry)
        self._watch(session)
        self._refill(session)

    async def _join_shared(self, session: Session) -> None:
        held = await self._holdings.shared(session.place.address, session.endpoint)
        if session not in held.sessions:
            held.sessions.append(session)
        session.held = [each for each in session.held if each.address == session.actor] + [held]

    def forget_recovery(self, address: str) -> None:
        """Something of this mailbox was dropped: who is away can't take up again without a gap."""
        for session in self.sessions.of_actor(address):
            if session.parked_until is not None:
                session.recoverable = False

    # the hot path

    def _send(self, session: Session, entry: Entry) -> None:
        reader = session.reader
        if reader is not None and not reader.may(entry.address, entry.message.type, entry.message.sender):
            self._ends.end(entry, End.REFUSED, "access", "the recipient's token does not allow to read it")
            return
        session.written = number = session.written + 1
        entry.session = session
        entry.deliveries += 1
        self._delivered += 1
        if entry.redelivered:
            self._redelivered += 1
        ack = session.ack
        if ack == "received":
            session.inflight.append(entry)
            session.bytes += len(entry.message.body)
            session.link.deliver(entry, None, str(number) if session.offsets else None)
        elif ack == "sent":
            session.link.deliver(entry, None, str(number) if session.offsets else None)
            session.confirmed = number
            self._confirmed += 1
            self._broker.ack((entry,))
            for held in session.held:
                held.refill()
        else:
            deadline = self._now() + session.endpoint.settings.delivery_timeout
            session.pending[number] = (entry, deadline)
            session.bytes += len(entry.message.body)
            session.link.deliver(entry, number, None)
            self._watch(session)

    def _refill(self, session: Session) -> None:
        for held in session.held:
            held.refill()

    def mark(self, session: Session) -> int:
        """A ping goes out on the connection: the number of the last delivery before it; 0: nothing to confirm."""
        if session.inflight or session.pending:
            if session.barrier_at is None:
                session.barrier_at = self._now() + session.endpoint.settings.delivery_timeout
                self._watch(session)
            return session.written
        return 0

    def confirm(self, session: Session, mark: int) -> None:
        """The client has all that was written up to `mark`."""
        if session.closed or session.parked_until is not None:
            return
        session.barrier_at = None
        session.late = False
        if session.ack == "received":
            inflight = session.inflight
            count = min(mark, session.written) - session.confirmed
            if count > 0:
                session.confirmed += count
                if count == len(inflight):
                    batch, session.inflight = inflight, []
                    session.bytes = 0
                else:
                    batch = inflight[:count]
                    del inflight[:count]
                    session.bytes -= sum([len(entry.message.body) for entry in batch])
                self._done(session, batch)
        mates = self.sessions.of_actor(session.actor)
        if len(mates) > 1 and (not session.inflight):
            for mate in mates:
                self._settled(mate, session)
        self._refill(session)

    def _done(self, session: Session, batch: list[Entry]) -> None:
        self._confirmed += len(batch)
        self._broker.ack(batch)
        if self._events.wanted("message.acknowledged"):
            for entry in batch:
                self._events.emit(
                    "message.acknowledged", message_id=entry.message.id, actor_id=session.actor, session_id=session.id
                )

    # client mode: the application's own answer

    def answered(self, session: Session, number: int, nack: str | None) -> bool:
        """The application's answer to a delivery; False: nothing waits for it (too late, or never asked)."""
        entry, _ = session.pending.pop(number, (None, 0.0))
        if entry is None:
            self._unknown += 1
            return False
        session.bytes -= len(entry.message.body)
        if nack is None:
            self._done(session, [entry])
        else:
            self._refused += 1
            self._attempts.failed(session, entry, nack or "refused")
        if not session.pending:
            for mate in self._mates(session):
                self._settled(mate, session)
        self._refill(session)
        return True

    # time

    def _watch(self, session: Session) -> None:
        self._deadlines.watch(session)

    def _on_timer(self, session: Session, now: float) -> None:
        if session.closed:
            return
        if session.parked_until is not None and session.parked_until <= now:
            session.parked_until = None
            session.recoverable = False
            self.detach(session)
            return
        if session.takeover_at is not None and session.takeover_at <= now:
            self._end_takeover(session)
        if session.barrier_at is not None and session.barrier_at <= now:
            session.barrier_at = None
            session.late = True
            for held in session.held:
                self._broker.release(held.hold_back())
                held.refill()
        self._time_out_pending(session, now)

    def _end_takeover(self, session: Session) -> None:
        session.takeover_at = None
        older = session.waiting_for
        session.waiting_for = set()
        for other in older:
            self._give_back(other)
        self._refill(session)

    def _time_out_pending(self, session: Session, now: float) -> None:
        late = [number for number, (_, deadline) in session.pending.items() if deadline <= now]
        for number in late:
            entry, _ = session.pending.pop(number)
            session.bytes -= len(entry.message.body)
            self._timed_out += 1
            self._attempts.failed(session, entry, "no answer within the delivery timeout")
        if late:
            self._refill(session)

    def stalled(self, session: Session, full: bool) -> None:
        """The connection's buffer is full, or has room again."""
        session.full = full
        if not full:
            self._refill(session)

    def statistics(self) -> DeliveryStatistics:
        return DeliveryStatistics(
            len(self.sessions),
            len(self._holdings),
            self._delivered,
            self._confirmed,
            self._redelivered,
            self._timed_out,
            self._refused,
            self._given_back,
            self._recovered,
            self._not_recovered,
            self._unknown,
        )
