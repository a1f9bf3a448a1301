"""Sessions that are taken up again on another node (DESIGN: resume).

client, pid, offset ─► this node ─ask─► the node that has the session: confirms up to the offset, gives back the rest
                            │                                            │
                            └── a parked session here, as if it had always been ◄─┘
a node that goes down leaves what it knows of its sessions with the others (`Left`), for their recovery window
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.core.access import Identity
from smart_router.core.asking import Asking
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Place
from smart_router.core.sessions import AWAY, Session

__all__ = ["Moving", "MovingStatistics"]

_MAX_LEFT: Final = 20_000  # sessions of nodes that went down; over it the oldest are forgotten
_BATCH: Final = 5000  # unconfirmed messages in one publication; a session counts as five besides
_encode: Final = msgspec.msgpack.Encoder().encode


class _Wanted(msgspec.Struct, array_like=True):
    """`subject`: of who asks; None: nobody is authenticated."""

    pid: str
    offset: int
    place: str
    subject: str | None


class _Moved(msgspec.Struct, array_like=True):
    """A session as it goes to another node. `written`: the number of its last delivery."""

    id: str
    actor: str
    since: int
    written: int


class _Left(msgspec.Struct, array_like=True):
    """What a node that goes down says of a session: `unconfirmed`: number and id of what its client may have."""

    pid: str
    place: str
    subject: str
    moved: _Moved
    unconfirmed: list[tuple[int, str]]
    until: int


_wanted: Final = msgspec.msgpack.Decoder(_Wanted).decode
_moved: Final = msgspec.msgpack.Decoder(_Moved).decode
_left: Final = msgspec.msgpack.Decoder(list[_Left]).decode


class MovingStatistics(NamedTuple):
    moved_here: int
    moved_away: int
    left: int  # kept for clients of nodes that went down


class Moving:
    """`nodes`: how many others there are to ask."""

    def __init__(self, delivery: Delivery, bus: Bus, asking: Asking, clock: Clock, *, authenticated: bool) -> None:
        self._delivery = delivery
        self._bus = bus
        self._asking = asking
        self._clock = clock
        self._authenticated = authenticated
        self._left: OrderedDict[str, _Left] = OrderedDict()
        self._by_actor: dict[str, str] = {}
        self._here = self._away = 0
        self.nodes = 0
        bus.listen("left", self._on_left)
        bus.listen("taken", self._on_taken)
        asking.answer("resume", self._asked)

    def must_ask(self, pid: str) -> bool:
        """True: another node may have it."""
        return (self.nodes > 0 or pid in self._left) and self._delivery.recovery.find(pid) is None

    async def fetch(self, pid: str, offset: int, place: Place, identity: Identity) -> None:
        """Brings the session here, parked, if another node has it and its owner asks. Raises StorageError, Refused."""
        subject = identity.subject if self._authenticated else None
        question = _encode(_Wanted(pid, offset, place.address, subject))
        answer = await self._asking.ask_any("resume", question, self.nodes)
        if answer is not None:
            await self._take_in(pid, _moved(answer), place, identity, set())
            return
        left = self._left.get(pid)
        if left is None or left.until < self._clock.wall_ms() or left.place != place.address:
            return
        if self._authenticated and left.subject != identity.subject:
            return
        self.outdate(left.moved.actor)
        has = {id_ for number, id_ in left.unconfirmed if number <= offset}
        await self._take_in(pid, left.moved, place, identity, has)

    async def _take_in(self, pid: str, moved: _Moved, place: Place, identity: Identity, has: set[str]) -> None:
        delivery, endpoint = self._delivery, place.endpoint
        session = Session(moved.id, moved.actor, place, AWAY, identity, moved.since)
        session.pid = pid
        session.written = session.confirmed = moved.written
        session.skip = has
        helds = [await delivery.holdings.own(moved.actor, endpoint)] if endpoint.own_mailbox else []
        try:
            await delivery.elsewhere.arrived(session)
        except BaseException:
            delivery.holdings.give_up(helds)
            raise
        delivery.enter(session, helds)
        delivery.recovery.wait(session)
        self._here += 1

    async def _asked(self, node: str, data: bytes) -> bytes | None:
        wanted = _wanted(data)
        session = self._delivery.recovery.find(wanted.pid)
        if session is None or session.place.address != wanted.place:
            return None
        if wanted.subject is not None and session.identity.subject != wanted.subject:
            return None
        moved = _Moved(session.id, session.actor, session.since, session.written)
        self._delivery.let_move(session, wanted.offset)
        self._away += 1
        return _encode(moved)

    # a node that goes down

    def leave(self) -> None:
        """Tells the others of all that may be taken up again, and is not any more here."""
        batch: list[_Left] = []
        size = 0
        for session in self._delivery.sessions:
            if session.parked_until is None or len(session.parked) > _BATCH:
                continue  # one that has so much unconfirmed gets it again
            if size + len(session.parked) > _BATCH:
                self._bus.publish("left", _encode(batch))
                batch, size = [], 0
            batch.append(self._describe(session))
            size += len(session.parked) + 5
        if batch:
            self._bus.publish("left", _encode(batch))

    def _describe(self, session: Session) -> _Left:
        window = int(session.endpoint.settings.recovery_window * 1000)
        moved = _Moved(session.id, session.actor, session.since, session.written)
        unconfirmed = [(number, entry.message.id) for number, entry in session.parked]
        until = self._clock.wall_ms() + window
        return _Left(session.pid or "", session.place.address, session.identity.subject, moved, unconfirmed, until)

    def _on_left(self, node: str, data: bytes) -> None:
        now = self._clock.wall_ms()
        for left in _left(data):
            self._forget(self._by_actor.get(left.moved.actor))
            self._left[left.pid] = left
            self._by_actor[left.moved.actor] = left.pid
        while self._left and (len(self._left) > _MAX_LEFT or next(iter(self._left.values())).until < now):
            self._forget(next(iter(self._left)))

    def _on_taken(self, node: str, data: bytes) -> None:
        self._forget(data.decode())

    def _forget(self, pid: str | None) -> None:
        if pid is not None and (left := self._left.pop(pid, None)) is not None:
            del self._by_actor[left.moved.actor]

    def outdate(self, actor: str) -> None:
        """A newer session of the actor, or a gap in its mailbox: what was left can't be taken up any more, anywhere."""
        pid = self._by_actor.get(actor)
        if pid is not None:
            self._forget(pid)
            self._bus.publish("taken", pid.encode())

    def statistics(self) -> MovingStatistics:
        return MovingStatistics(self._here, self._away, len(self._left))
