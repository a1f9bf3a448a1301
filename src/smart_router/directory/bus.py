"""The directory over the bus: every node announces its own sessions, and all keep the whole table.

    add, remove ──► one publication a turn: change n ──► every other node: n follows n-1, or a gap
    report      ──► (record, n) every few seconds    ──► lease extended; another n: a gap
                                                  gap ──► ask that node ──► its table, in parts ──► as it is now

A node that is not heard of for `lease` seconds is gone. One that was only cut off comes back with its next report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from smart_router.clock import Clock, Deadlines
from smart_router.directory.announcements import (
    Announcement,
    Ask,
    Changes,
    Leave,
    Part,
    Report,
    Row,
    decode,
    record_of,
)
from smart_router.directory.announcer import TOPIC, Announcer, Messenger
from smart_router.directory.base import DirectoryStatistics, NodeRecord, SessionRecord
from smart_router.directory.peers import Peer
from smart_router.directory.table import Table
from smart_router.errors import BrokerAway

__all__ = ["LEASE", "BusDirectory"]

LEASE: Final = 6.0
"""Seconds: three reports of two seconds."""

SETTLE: Final = 1.0
"""Seconds that a newcomer waits for the others, if nobody has told it earlier who they are."""

_log = structlog.get_logger("smart_router.directory")


class BusDirectory:
    """See Directory. `add` never raises: what is announced while the bus is away is made good afterwards.

    The bus is open before this is. From `open` to `close` this stands before what `bus.on_up` was.
    """

    follows_sessions = True

    def __init__(self, bus: Messenger, clock: Clock, *, lease: float = LEASE, settle: float = SETTLE) -> None:
        self.on_node: Callable[[NodeRecord, bool], None] = lambda record, gone: None
        self.on_session: Callable[[SessionRecord, bool], None] = lambda session, gone: None
        self.deadlines: Deadlines | None = None
        self.queued: float | None = None
        self.deadline: float | None = None
        self._bus = bus
        self._clock = clock
        self._lease = lease
        self._settle = settle
        self._table = Table()
        self._peers: dict[str, Peer] = {}
        self._announcer = Announcer(bus, lambda: self._table.of_node(bus.node))
        self._was_away = False
        self._opening: asyncio.Future[None] | None = None
        self._open_until = 0.0
        self._mentioned: set[str] = set()
        self._next_look = 0.0
        self._on_up_before: Callable[[], None] = lambda: None

    # Directory

    async def open(self, me: NodeRecord) -> None:
        if self._bus.trouble():
            raise BrokerAway(f"The directory cannot reach the other nodes: {self._bus.trouble()}")
        self._announcer.me = me
        loop = asyncio.get_running_loop()
        self._bus.listen(TOPIC, self._hear)
        self._on_up_before, self._bus.on_up = self._bus.on_up, self._up
        now = self._clock.monotonic()
        self._opening = loop.create_future()
        self._open_until = now + self._settle
        self._next_look = now + self._lease / 3
        self.deadlines = Deadlines(self._clock, loop.call_at)
        self._watch()
        self._announcer.tell_all(please_answer=True)
        try:
            await self._opening
        finally:
            self._opening = None

    async def close(self) -> None:
        if self._announcer.me is None:
            return
        self._announcer.leave()
        if self._bus.on_up == self._up:
            self._bus.on_up = self._on_up_before
        if self.deadlines is not None:
            self.deadlines.close()

    def report(self, me: NodeRecord) -> None:
        if self._announcer.me is not None:
            self._announcer.me = me
            self._announcer.tell_all()

    async def add(self, session: SessionRecord) -> list[SessionRecord]:
        self._table.add(session)
        self._announcer.change(session, gone=False)
        return [one for one in self._table.of_actor(session.actor) if one.node != session.node]

    def remove(self, session: SessionRecord) -> None:
        gone = self._table.remove(session.actor, session.id, session.node)
        if gone is not None:
            self._announcer.change(gone, gone=True)

    async def of_actor(self, actor: str) -> list[SessionRecord]:
        return list(self._table.of_actor(actor))

    async def sessions(self, prefix: str = "", after: str = "", limit: int = 100) -> list[SessionRecord]:
        return self._table.page(prefix, after, limit)

    async def nodes(self) -> list[NodeRecord]:
        found = [peer.record for peer in self._peers.values()]
        if self._announcer.me is not None:
            found.append(self._announcer.me)
        return sorted(found, key=lambda record: (record.started_at, record.id))

    def trouble(self) -> str:
        return self._bus.trouble() if self._announcer.me is not None else "the directory is not open"

    def statistics(self) -> DirectoryStatistics:
        reason = self.trouble()
        nodes = len(self._peers) + (self._announcer.me is not None)
        return DirectoryStatistics(nodes, len(self._table), not reason, reason)

    def _ask(self, node: str, peer: Peer) -> None:
        peer.asked_at = self._clock.monotonic()
        self._announcer.ask(node)

    # What the others say

    def _hear(self, node: str, data: bytes) -> None:
        said = decode(data)
        if said is None or self._announcer.me is None:
            return
        if isinstance(said, Report):
            self._hear_report(node, said)
        elif isinstance(said, Ask):
            self._announcer.send_table(node)
        elif node in self._peers:
            self._hear_peer(node, self._peers[node], said)
        self._look_if_open()

    def _hear_peer(self, node: str, peer: Peer, said: Announcement) -> None:
        """Who is not known yet is known with its next report."""
        if isinstance(said, Changes):
            self._hear_changes(node, peer, said)
        elif isinstance(said, Part):
            rows = peer.add_part(said)
            if rows is not None:
                self._replace(peer.record.id, rows)
        elif isinstance(said, Leave):
            self._gone(node)

    def _hear_report(self, node: str, report: Report) -> None:
        if report.node.id != node:
            return
        now = self._clock.monotonic()
        peer = self._peers.get(node)
        if peer is None:
            peer = self._peers[node] = Peer(report.node, now)
            self._told(self.on_node, report.node, gone=False)
        peer.record = report.node
        peer.heard_at = now
        self._mentioned.update(report.knows)
        if report.please_answer:
            self._announcer.answer(node, self._peers)
        if peer.must_ask(report.count):
            self._ask(node, peer)

    def _hear_changes(self, node: str, peer: Peer, changes: Changes) -> None:
        if not peer.follows(changes.count):
            if peer.must_ask(changes.count):
                self._ask(node, peer)
            return
        for actor, id_ in changes.gone:
            self._forget(actor, id_, node)
        for row in changes.come:
            self._learn(record_of(row, peer.record.id))

    def _replace(self, node: str, rows: Iterable[Row]) -> None:
        """The node's sessions are these: told is what differs."""
        news = {row.id: record_of(row, node) for row in rows}
        for old in self._table.of_node(node):
            if news.get(old.id) == old:
                del news[old.id]
            else:
                self._forget(old.actor, old.id, node)
        for session in news.values():
            self._learn(session)

    def _learn(self, session: SessionRecord) -> None:
        old = self._table.add(session)
        if old == session:
            return
        if old is not None:
            self._told(self.on_session, old, gone=True)
        self._told(self.on_session, session, gone=False)

    def _forget(self, actor: str, id_: str, node: str) -> None:
        old = self._table.remove(actor, id_, node)
        if old is not None:
            self._told(self.on_session, old, gone=True)

    def _gone(self, node: str) -> None:
        peer = self._peers.pop(node)
        for session in self._table.of_node(node):
            self._forget(session.actor, session.id, node)
        self._told(self.on_node, peer.record, gone=True)

    # Time

    def handle_timer(self, now: float) -> None:
        if now >= self._next_look:
            self._look(now)
        self._look_if_open(now)
        self._watch()

    def _look(self, now: float) -> None:
        """Whose lease has ended, and who has not answered.

        While this node's own bus is away, or when it was late itself, silence of the others proves nothing.
        """
        every = self._lease / 3
        deaf = bool(self._bus.trouble())
        if deaf or self._was_away or now - self._next_look > every:
            for peer in self._peers.values():
                peer.heard_at = now
        if self._was_away and not deaf:
            self._announcer.tell_all(please_answer=True)
        self._was_away = deaf
        self._next_look = now + every
        for node, peer in list(self._peers.items()):
            if now - peer.heard_at >= self._lease:
                self._gone(node)
            elif peer.asked_at is not None and now - peer.asked_at >= every:
                self._ask(node, peer)

    def _look_if_open(self, now: float = 0.0) -> None:
        """A newcomer knows the others: all that any of them has named have told it their tables, or time is up."""
        if self._opening is None or self._opening.done():
            return
        others = self._peers.keys() | self._mentioned - {self._bus.node}
        knows = others and all(node in self._peers and self._peers[node].settled for node in others)
        if knows or now >= self._open_until:
            self._opening.set_result(None)

    def _watch(self) -> None:
        assert self.deadlines is not None
        is_opening = self._opening is not None and not self._opening.done()
        self.deadline = min(self._next_look, self._open_until) if is_opening else self._next_look
        self.deadlines.watch(self)

    def _up(self) -> None:
        """The bus is there again: all is asked and told again, and whatever was missed is found by the counts."""
        if self._announcer.me is not None:
            now = self._clock.monotonic()
            for peer in self._peers.values():
                peer.heard_at = now
            self._was_away = False
            self._announcer.tell_all(please_answer=True)
        self._on_up_before()

    def _told(self, listener: Callable[..., None], record: object, *, gone: bool) -> None:
        try:
            listener(record, gone)
        except Exception:  # noqa: BLE001 - somebody else's code; logged with its trace
            _log.exception("directory_listener_failed")
