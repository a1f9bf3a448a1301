"""From a held mailbox to a session's connection, and back: confirmation, or the mailbox again.

broker ─deliver─► Held ─► send ─► Link.deliver ─► wire
                            │
        received: a ping answered after it ─► confirm ─┐
        sent:     written                    ──────────┼─► broker.ack
        client:   the application's answer ─► answered ┘
        lost, refused, timed out ─► broker.release (in order, before what waits) ─► the next session, or a dead letter
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from smart_router.brokers.base import Broker, End, Entry
from smart_router.clock import Deadlines
from smart_router.core.access import Permissions
from smart_router.core.attempts import Attempts
from smart_router.core.elsewhere import Elsewhere, Nowhere
from smart_router.core.mailbox import Held, Holdings
from smart_router.core.recovery import Recovery
from smart_router.core.reports import Reports
from smart_router.core.sessionhealth import Heartbeats
from smart_router.core.sessions import Session, Sessions
from smart_router.core.takeover import TakeOvers
from smart_router.errors import Refused, RouterError

if TYPE_CHECKING:
    from smart_router.core.receipts import Receipts

__all__ = ["Delivery", "DeliveryStatistics"]


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
        self.clock = deadlines.clock
        self._now = deadlines.clock.monotonic
        self.holdings = Holdings(broker, self._send)
        self.recovery = Recovery(broker, sessions, self.holdings, attempts, deadlines)
        self.takeovers = TakeOvers(broker, sessions, self.holdings, deadlines)
        self.takeovers.detach, self.takeovers.give_back = self.detach, self._give_back
        self.takeovers.refill = self._refill
        self.heartbeats = Heartbeats(self, reports.events)
        self.elsewhere: Elsewhere = Nowhere()
        self.receipts: Receipts
        """Of what says in `wants` that somebody is to be told."""
        self.join_own: Callable[[str], None]
        """Lets the actor's sessions read its own mailbox, though their endpoint gives nobody one."""
        self._redelivered = self._delivered = self._confirmed = self._timed_out = 0
        self._refused = self._given_back = self._unknown = 0

    # attaching and detaching

    async def attach(self, session: Session) -> None:
        """Subscribes the session's mailboxes, says hello, lets deliveries begin. Raises StorageError, Refused.

        One whose lease had ended is registered again, and greeted no second time.
        """
        helds = await self._subscribe(session)
        try:
            await self.elsewhere.arrived(session)
        except BaseException:
            self.holdings.give_up(helds)
            raise
        if session.closed:
            self.elsewhere.left(session)
            self.holdings.give_up(helds)
            return
        self.enter(session, helds)
        session.ready = True
        if session.expired:
            self.heartbeats.again(session)
        else:
            session.link.hello(False)
        self._events.emit("session.registered", actor_id=session.actor, session_id=session.id)
        self.watch(session)
        self._refill(session)

    def enter(self, session: Session, helds: list[Held]) -> None:
        """Among the sessions here; what is given to it is up to `ready`."""
        session.on_timer = self._on_timer
        session.held = helds
        for held in helds:
            held.join(session)  # before older ones go, with whom the subscription would
        self.takeovers.arrive(session)
        self.sessions.add(session)
        self.heartbeats.start(session)

    async def _subscribe(self, session: Session) -> list[Held]:
        endpoint = session.endpoint
        helds: list[Held] = []
        try:
            if endpoint.own_mailbox or await self._broker.mailbox(session.actor) is not None:
                helds.append(await self.holdings.own(session.actor, endpoint))
            if endpoint.shared_mailbox:
                helds.append(await self.holdings.shared(session.place.address, endpoint))
        except BaseException:
            self.holdings.give_up(helds)
            raise
        return helds

    def detach(self, session: Session, *, resumable: bool = False) -> None:
        """The connection is gone. What is unconfirmed goes back, or is kept for a recovery (`resumable`)."""
        if session.closed:
            return
        if session.expired:
            session.closed = True
            self.sessions.remove(session)
            return
        if resumable and session.recoverable and session.ready and not self._mates(session):
            self.recovery.park(session)
            self.elsewhere.parked(session)
            return
        session.closed = True
        has_begun = bool(session.held)
        self.withdraw(session)
        if has_begun:
            self._events.emit("session.unregistered", actor_id=session.actor, session_id=session.id)

    def withdraw(self, session: Session) -> None:
        """From its mailboxes: what it has goes back."""
        session.ready = False
        for held in session.held:
            if session in held.sessions:
                held.sessions.remove(session)
            held.hold_back(self._broker)  # it came later than what is given back
        self._give_back(session)
        self.sessions.remove(session)
        self.takeovers.gone(session)
        self.elsewhere.left(session)
        self.holdings.let_go(session.held)
        for held in session.held:
            held.refill()
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
        entries = [entry for _, entry in session.parked] + list(session.inflight) + session.take_pending()
        session.parked = []
        session.inflight = []
        session.bytes = 0
        session.confirmed = session.written
        self._given_back += len(entries)
        self._attempts.given_back(entries, client=session.ack == "client")

    async def recover(self, session: Session, offset: int) -> None:
        """Goes on where the client was: up to `offset` is confirmed, then hello, then the rest, to the new `link`."""
        resumed = await self.recovery.resume(session, offset)
        if resumed is None:
            return
        if not session.endpoint.own_mailbox and await self._broker.mailbox(session.actor) is not None:
            self.join_own(session.actor)
        if resumed.confirmed:
            self.done(session, resumed.confirmed)
        self.heartbeats.start(session)
        self.elsewhere.changed(session)
        session.link.hello(True)
        for entry in resumed.rest:
            entry.redelivered = True
            self._send(session, entry)
        self.watch(session)
        self._refill(session)

    def let_move(self, session: Session, offset: int) -> None:
        """Its client goes on at another node: up to `offset` is confirmed, the rest goes back, and it ends here."""
        if session.parked_until is None:
            self.recovery.park(session)
        confirmed = [entry for number, entry in session.parked if number <= offset]
        session.parked = [(number, entry) for number, entry in session.parked if number > offset]
        if confirmed:
            self.done(session, confirmed)
        session.recoverable = False
        session.link.cut()
        self.detach(session)

    # the hot path

    def _send(self, session: Session, entry: Entry) -> None:
        reader = session.reader
        if entry.attempts < 0 or (reader is not None and not self._may_read(reader, entry)):
            asyncio.get_running_loop().call_soon(self._refill, session)  # its place in the window is free
            return
        if session.skip and entry.message.id in session.skip:
            session.skip.discard(entry.message.id)
            self.done(session, [entry])
            asyncio.get_running_loop().call_soon(self._refill, session)
            return
        session.written = number = session.written + 1
        entry.deliveries += 1
        self._delivered += 1
        if entry.redelivered:
            self._redelivered += 1
        if self._events.routed:
            self._tell(entry, session, "message.routed")
        ack, message = session.ack, entry.message
        if ack == "received":
            session.inflight.append(entry)
            session.bytes += message.size if message.attachments else len(message.body)
            session.link.deliver(entry, None, str(number) if session.offsets else None)
        elif ack == "sent":
            session.link.deliver(entry, None, str(number) if session.offsets else None)
            session.confirmed = number
            self._confirmed += 1
            self._broker.ack(self.receipts.delivered(session.actor, (entry,)) if message.wants else (entry,))
            for held in session.held:
                held.refill()
        else:
            deadline = self._now() + session.endpoint.settings.delivery_timeout
            session.pending[number] = (entry, deadline)
            session.bytes += message.size
            session.link.deliver(entry, number, None)
            self.watch(session)

    def _may_read(self, reader: Permissions, entry: Entry) -> bool:
        """False: it has ended."""
        message = entry.message
        if reader.may(entry.address, message.type, message.sender):
            return True
        self._ends.end(entry, End.REFUSED, "access", "the recipient's token does not allow to read it")
        return False

    def _refill(self, session: Session) -> None:
        for held in session.held:
            held.refill()

    def mark(self, session: Session) -> int:
        """A ping goes out on the connection: the number of the last delivery before it; 0: nothing to confirm."""
        if session.inflight or session.pending:
            if session.barrier_at is None:
                session.barrier_at = self._now() + session.endpoint.settings.delivery_timeout
                self.watch(session)
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
                    session.bytes -= sum([entry.message.size for entry in batch])
                self.done(session, batch)
        takeovers = self.takeovers
        if not session.inflight and (takeovers.claims or len(self.sessions.of_actor(session.actor)) > 1):
            takeovers.alive(session)
        self._refill(session)

    def done(self, session: Session, batch: list[Entry]) -> None:
        """Its recipient has them."""
        self._confirmed += len(batch)
        free = batch
        for entry in batch:
            if entry.message.wants:
                free = self.receipts.delivered(session.actor, batch)
                break
        self._broker.ack(free)
        if self._events.wanted("message.acknowledged"):
            for entry in batch:
                self._tell(entry, session, "message.acknowledged")

    def _tell(self, entry: Entry, session: Session, event: str) -> None:
        self._events.emit(event, message_id=entry.message.id, actor_id=session.actor, session_id=session.id)

    # client mode: the application's own answer

    def answered(self, session: Session, number: int, nack: str | None) -> bool:
        """The application's answer to a delivery; False: nothing waits for it (too late, or never asked)."""
        entry, _ = session.pending.pop(number, (None, 0.0))
        if entry is None:
            self._unknown += 1
            return False
        session.bytes -= entry.message.size
        if nack is None:
            self.done(session, [entry])
        else:
            self._refused += 1
            self._attempts.failed(session, entry, nack or "refused", self._now())
            self.watch(session)
        self.takeovers.settle(session)
        self._refill(session)
        return True

    # time

    def watch(self, session: Session) -> None:
        self._deadlines.watch(session)

    def _on_timer(self, session: Session, now: float) -> None:
        if session.closed:
            return
        if session.parked_until is not None and session.parked_until <= now:
            session.parked_until = None
            session.recoverable = False
            self.detach(session)
            return
        if session.beat_at is not None and session.beat_at <= now:
            self.heartbeats.check(session, now)
        if session.takeover_at is not None and session.takeover_at <= now:
            self.takeovers.end(session)
        if session.barrier_at is not None and session.barrier_at <= now:
            session.barrier_at = None
            session.late = True
            for held in session.held:
                held.hold_back(self._broker)
                held.refill()
        if session.retry_at is not None and session.retry_at <= now:
            self._broker.release(session.take_retrying())
            self.takeovers.settle(session)
            self._refill(session)
        self._time_out_pending(session, now)

    def _time_out_pending(self, session: Session, now: float) -> None:
        late = [number for number, (_, deadline) in session.pending.items() if deadline <= now]
        for number in late:
            entry, _ = session.pending.pop(number)
            session.bytes -= entry.message.size
            self._timed_out += 1
            self._attempts.failed(session, entry, "no answer within the delivery timeout", now)
        if late:
            self.takeovers.settle(session)
            self._refill(session)

    def stalled(self, session: Session, full: bool) -> None:
        """The connection's buffer is full, or has room again."""
        session.full = full
        if not full:
            self._refill(session)

    def statistics(self) -> DeliveryStatistics:
        return DeliveryStatistics(
            len(self.sessions),
            len(self.holdings),
            self._delivered,
            self._confirmed,
            self._redelivered,
            self._timed_out,
            self._refused,
            self._given_back,
            self.recovery.recovered,
            self.recovery.missed,
            self._unknown,
        )
