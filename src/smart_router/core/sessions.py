"""Sessions: live connections of actors, and the window of what each has in flight.

written  ──────────────────────────────►  number of the last delivery
confirmed ───────────►                    everything up to here is the recipient's
           [ inflight: what lies between, oldest first ]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from smart_router.brokers.base import Entry
from smart_router.core.endpoints import Place
from smart_router.core.registration import USUAL, Registration
from smart_router.errors import RouterError

if TYPE_CHECKING:
    from smart_router.core.access import Identity, Permissions
    from smart_router.core.limits import Rate
    from smart_router.core.mailbox import Held

__all__ = ["AWAY", "Link", "Session", "SessionInfo", "Sessions"]


class Link(Protocol):
    """What a session needs of the connection behind it."""

    def deliver(self, entry: Entry, ack_id: int | None, offset: str | None) -> None:
        """Writes the entry's message; nothing is lost if the connection dies meanwhile: it is unconfirmed."""

    def hello(self, recovered: bool) -> None:
        """The mailboxes are subscribed: deliveries follow."""

    def fail(self, error: RouterError) -> None:
        """Tells the client of an error that belongs to no request of its own."""

    def barrier(self) -> None:
        """Pings now; the answer confirms all that was written before."""

    def cut(self) -> None:
        """Another connection has taken this session over: close without a goodbye."""

    def end(self, error: RouterError) -> None:
        """Access is gone: tell why, and close for good."""


class _Away:
    """The link of a session whose client is not there yet."""

    def deliver(self, entry: Entry, ack_id: int | None, offset: str | None) -> None:
        return

    def hello(self, recovered: bool) -> None:
        return

    def fail(self, error: RouterError) -> None:
        return

    def barrier(self) -> None:
        return

    def cut(self) -> None:
        return

    def end(self, error: RouterError) -> None:
        return


AWAY: Final = _Away()


class SessionInfo(NamedTuple):
    """A session as others may see it."""

    id: str
    actor: str
    endpoint: str
    subject: str
    since: int
    in_flight: int
    written: int
    parked: bool
    daemon: str
    status: str
    metadata: str
    health: str


class _Pulse:
    """Whether the client is heard (core/sessionhealth.py).

    `active_at`: when it last was, `beat_at`: when that is looked at next, `beat_every`: s between expected heartbeats,
    0: none are. `expired`: the lease has ended, `unwell`: that, or not healthy.
    """

    __slots__ = ("active_at", "beat_at", "beat_every", "expired", "health", "missed", "registration", "unwell")

    def __init__(self) -> None:
        self.registration: Registration = USUAL
        self.active_at = 0.0
        self.beat_at: float | None = None
        self.beat_every = 0.0
        self.missed = 0
        self.health = "healthy"
        self.unwell = False
        self.expired = False


class Session(_Pulse):
    """One live connection of an actor, and what it has in flight.

    `ready`: hello was sent, deliveries may go out. `late`: a ping is unanswered for too long, `full`: the transport is:
    then nothing more is given. `waiting_for`: older sessions that confirm or give back before this one gets anything.
    `retrying`: what waits for its next attempt while the window is 1, so nothing goes before it.
    `parked`: the connection is lost and may be recovered; numbers and entries of its own mailbox that were in flight.
    `skip`: ids of messages that its client has from another node; they are confirmed when they come.
    """

    __slots__ = (
        "ack",
        "actor",
        "barrier_at",
        "bytes",
        "closed",
        "confirmed",
        "endpoint",
        "from_part",
        "full",
        "held",
        "id",
        "identity",
        "inflight",
        "late",
        "link",
        "offsets",
        "on_timer",
        "parked",
        "parked_until",
        "pending",
        "pid",
        "place",
        "publisher",
        "queued",
        "rate",
        "reader",
        "ready",
        "recoverable",
        "retry_at",
        "retrying",
        "since",
        "skip",
        "takeover_at",
        "waiting_for",
        "window",
        "window_bytes",
        "written",
    )

    def __init__(self, id_: str, actor: str, place: Place, link: Link, identity: Identity, since: int) -> None:
        super().__init__()
        self.id = id_
        self.actor = actor
        self.place = place
        self.endpoint = endpoint = place.endpoint
        self.link = link
        self.identity = identity
        self.since = since
        self.pid: str | None = None
        self.rate: Rate | None = None
        self.publisher: Permissions | None = None
        self.reader: Permissions | None = None
        settings = endpoint.settings
        self.ack = settings.ack
        self.window = settings.window
        self.window_bytes = settings.window_bytes
        self.offsets = settings.recovery and self.ack != "client"
        self.recoverable = settings.recovery
        self.from_part = b'","from":"' + actor.encode() + b'","at":'
        self.inflight: list[Entry] = []
        self.pending: dict[int, tuple[Entry, float]] = {}
        self.bytes = 0
        self.written = 0
        self.confirmed = 0
        self.held: list[Held] = []
        self.ready = False
        self.closed = False
        self.late = False
        self.full = False
        self.parked: list[tuple[int, Entry]] = []
        self.skip: set[str] = set()
        self.waiting_for: set[Session] = set()
        self.retrying: Entry | None = None
        self.retry_at: float | None = None
        self.barrier_at: float | None = None
        self.takeover_at: float | None = None
        self.parked_until: float | None = None
        self.queued: float | None = None
        self.on_timer: Callable[[Session, float], None] | None = None

    @property
    def in_flight(self) -> int:
        return len(self.inflight) + len(self.pending) + len(self.parked) + (self.retrying is not None)

    @property
    def room(self) -> int:
        """How many more deliveries it takes now."""
        if not self.ready or self.late or self.full or self.waiting_for or self.bytes >= self.window_bytes:
            return 0
        if self.retrying is not None:
            return 0
        return self.window - len(self.inflight) - len(self.pending)

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` is due, for clock.Deadlines; nothing is after the end."""
        if self.closed:
            return None
        times = [self.beat_at, self.barrier_at, self.takeover_at, self.parked_until, self.retry_at]
        if self.pending:
            times.append(next(iter(self.pending.values()))[1])
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self.on_timer is not None:
            self.on_timer(self, now)

    def take_pending(self) -> list[Entry]:
        """What waits for the application's answer, or for its next attempt; from now on it does not."""
        entries = self.take_retrying() + [entry for entry, _ in self.pending.values()]
        self.pending.clear()
        return entries

    def take_retrying(self) -> list[Entry]:
        entry, self.retrying, self.retry_at = self.retrying, None, None
        return [entry] if entry is not None else []

    def info(self) -> SessionInfo:
        return SessionInfo(
            self.id,
            self.actor,
            self.endpoint.name,
            self.identity.subject,
            self.since,
            self.in_flight,
            self.written,
            self.parked_until is not None,
            self.registration.daemon,
            self.registration.status,
            self.registration.metadata,
            self.health,
        )


class Sessions:
    """The sessions of this node, by actor (oldest first), by id and by recovery `pid`.

    Those whose lease has ended are `suspended`: nobody's any more, but all that are here are gone through with them.
    """

    def __init__(self) -> None:
        self._by_actor: dict[str, list[Session]] = {}
        self._by_pid: dict[str, Session] = {}
        self._by_id: dict[str, Session] = {}
        self.suspended: set[Session] = set()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter([*self._by_id.values(), *self.suspended])

    def add(self, session: Session) -> None:
        self._by_actor.setdefault(session.actor, []).append(session)
        self._by_id[session.id] = session
        self.suspended.discard(session)
        if session.pid is not None:
            self._by_pid[session.pid] = session

    def suspend(self, session: Session) -> None:
        """Its connection stays."""
        self.remove(session)
        self.suspended.add(session)

    def remove(self, session: Session) -> None:
        self.suspended.discard(session)
        mates = self._by_actor.get(session.actor, [])
        if session in mates:
            mates.remove(session)
            if not mates:
                del self._by_actor[session.actor]
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
        if session.pid is not None and self._by_pid.get(session.pid) is session:
            del self._by_pid[session.pid]

    def of_actor(self, actor: str) -> list[Session]:
        return self._by_actor.get(actor, [])

    def of_pid(self, pid: str) -> Session | None:
        return self._by_pid.get(pid)
