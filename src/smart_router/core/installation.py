"""This node among the others of its installation.

here: a session ──► directory ──► who has older ones of its actor ──► claim ──► they let its mailbox go
every few seconds: what this node says of itself; nodes with another configuration are told of
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from smart_router.bus.base import Bus
from smart_router.config.schema import EndpointSettings, RouteSettings
from smart_router.core.asking import Asking
from smart_router.core.delivery import Delivery
from smart_router.core.elsewhere import Nobody, Onlooker
from smart_router.core.health import Health
from smart_router.core.moving import Moving
from smart_router.core.sessions import Session
from smart_router.core.sharing import Sharing
from smart_router.directory.base import Directory, NodeRecord, SessionRecord, SessionState
from smart_router.errors import StorageError

__all__ = ["Installation", "InstallationStatistics", "Others", "digest", "node_id"]

_log = structlog.get_logger("smart_router.installation")
_REPORT_EVERY: Final = 2.0  # s
_CUT_OFF: Final = 1000
_GAPS: Final = 2000  # addresses in one publication
_GAPS_EVERY: Final = 0.05  # s that addresses with a gap are collected


def node_id(name: str | None) -> str:
    """Unique among all nodes that ever were; begins with `name`, or the machine's."""
    own = name or re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64] or "node"
    return f"{own}-{os.urandom(4).hex()}"


def digest(endpoints: Mapping[str, EndpointSettings], routes: list[RouteSettings]) -> str:
    """Of what must be the same on all nodes."""
    table = msgspec.json.encode([sorted(endpoints.items()), routes], order="sorted")
    return hashlib.sha256(table).hexdigest()[:16]


class InstallationStatistics(NamedTuple):
    nodes: int
    sessions: int  # of all nodes, as far as this one keeps them
    moved_here: int
    moved_away: int
    left: int
    lag: float  # s that the event loop was late at the last report
    healthy: bool
    reason: str


class Others(NamedTuple):
    """The way to the other nodes."""

    bus: Bus
    directory: Directory
    asking: Asking


class Installation:
    """Implements core.elsewhere.Elsewhere. `trouble`: why this node takes no new messages."""

    def __init__(
        self, me: NodeRecord, others: Others, delivery: Delivery, moving: Moving, sharing: Sharing, health: Health
    ) -> None:
        self.me = me
        self.bus, self.directory, self.asking = bus, directory, _ = others
        self.moving = moving
        self._delivery = delivery
        self._sharing = sharing
        self._health = health
        self._clock = delivery.clock
        self.trouble: Callable[[], str] = lambda: ""
        self.onlooker: Onlooker = Nobody()
        self.address = ""
        self._others: dict[str, NodeRecord] = {}
        self._gaps: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lag = 0.0
        self._gone: SessionRecord | None = None
        self._cut_off: set[str] = set()
        bus.listen("claim", self._claimed)
        bus.listen("gap", self._gapped)
        bus.on_up = self._up
        directory.on_node = self._on_node
        directory.on_session = self._on_session

    async def open(self) -> None:
        """One of the installation's nodes, and knows what they know. Raises StorageError."""
        await self.bus.open()
        await self.directory.open(self.me)
        others = await self._look()
        await self._sharing.catch_up(others)
        await self.onlooker.catch_up(others)
        self._run(self._keep_reporting())

    async def _look(self) -> list[str]:
        """The other nodes."""
        found = await self.directory.nodes()
        for node in found:
            if node.id != self.me.id and node.id not in self._others:
                self._on_node(node, False)
        return list(self._others)

    async def close(self) -> None:
        """Gone for the others. What sessions may be taken up again they have been told by `leave`."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.asking.close()
        await self._sharing.close()
        await self.directory.close()
        await self.bus.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # core.elsewhere.Elsewhere

    async def arrived(self, session: Session) -> None:
        self.moving.outdate(session.actor)
        others = await self.directory.add(self._record(session))
        claim = session.actor.encode()
        for node in {other.node for other in others}:
            self.bus.send(node, "claim", claim)
        self.onlooker.moved(session.actor)

    def parked(self, session: Session) -> None:
        self.changed(session)
        if self._others:
            self._run(self._end_if_others(session))

    async def _end_if_others(self, session: Session) -> None:
        try:
            others = await self.directory.of_actor(session.actor)
        except StorageError:
            return  # it waits for its client, as it would if it were alone
        if session.parked_until is not None and any(other.node != self.me.id for other in others):
            session.recoverable = False
            session.parked_until = None
            self._delivery.detach(session)

    def changed(self, session: Session) -> None:
        self._run(self._tell_change(session))

    async def _tell_change(self, session: Session) -> None:
        if not (session.closed or session.expired):
            with suppress(StorageError):  # the directory tells it when it is there again
                await self.directory.add(self._record(session))
        self.onlooker.moved(session.actor)

    def left(self, session: Session) -> None:
        record = self._record(session)
        self.directory.remove(record)
        self.onlooker.lost(record)
        self.onlooker.moved(session.actor)

    def _record(self, session: Session) -> SessionRecord:
        subject = session.identity.subject
        own = session.registration
        state = SessionState(
            own.daemon, own.status, own.metadata, own.lease, session.health, session.parked_until is not None
        )
        return SessionRecord(
            session.id, session.actor, session.endpoint.name, self.me.id, subject, session.since, state
        )

    # from the others

    def _claimed(self, node: str, data: bytes) -> None:
        self._delivery.takeovers.claim(data.decode())

    def _on_session(self, record: SessionRecord, gone: bool) -> None:
        """A claim may be lost, or come before the session's node knew of ours."""
        if gone:
            self._gone = record
            self.onlooker.lost(record)
            return
        before, self._gone = self._gone, None
        if before is not None and (before.node, before.id, before.since) == (record.node, record.id, record.since):
            return  # it has only changed
        here = self._delivery.sessions.of_actor(record.actor)
        if here and all((session.since, session.id) < (record.since, record.id) for session in here):
            self._delivery.takeovers.claim(record.actor)

    def _on_node(self, record: NodeRecord, gone: bool) -> None:
        if gone:
            self._others.pop(record.id, None)
            _log.info("node_gone", node=record.id)
            self._cut_off.add(record.id)  # or dead: then it never comes back
            if len(self._cut_off) > _CUT_OFF:
                self._cut_off.clear()
            if self.in_charge():
                self.onlooker.look_at_all(sure=True)
        else:
            if record.id in self._cut_off:
                self._cut_off.discard(record.id)
                self.onlooker.look_at_all(sure=False)
            if record.id not in self._others:
                _log.info("node_found", node=record.id, version=record.version)
                self._compare(record)
            self._others[record.id] = record
        self.moving.nodes = len(self._others)

    def in_charge(self) -> bool:
        """Of what one of all nodes has to do: the living one with the lowest id does."""
        return all(self.me.id < other for other in self._others)

    def _compare(self, other: NodeRecord) -> None:
        if other.configuration != self.me.configuration:
            text = f"Node {other.id} has other endpoints or routes than this one: give all nodes the same file."
            _log.warning("configuration_differs", node=other.id)
            self._health.warning(text)

    def _up(self) -> None:
        """The bus was away: what was said meanwhile is asked for."""
        self._run(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            others = await self._look()
            await self._sharing.catch_up(others)
            await self.onlooker.catch_up(others)
        except StorageError as error:
            _log.warning("not_caught_up", error=error.message)
        self.onlooker.look_at_all(sure=False)

    # gaps: who is away on another node can't take up again without one

    def gap(self, address: str) -> None:
        """Something of this mailbox was dropped here."""
        self._delivery.recovery.forget(address)
        self.moving.outdate(address)
        if self._others:
            if not self._gaps:
                asyncio.get_running_loop().call_later(_GAPS_EVERY, self._tell_gaps)
            self._gaps.add(address)

    def _tell_gaps(self) -> None:
        gaps = sorted(self._gaps)
        self._gaps.clear()
        for start in range(0, len(gaps), _GAPS):
            self.bus.publish("gap", msgspec.json.encode(gaps[start : start + _GAPS]))

    def _gapped(self, node: str, data: bytes) -> None:
        for address in msgspec.json.decode(data, type=list[str]):
            self._delivery.recovery.forget(address)

    # what this node says of itself

    async def _keep_reporting(self) -> None:
        while True:
            due = self._clock.monotonic() + _REPORT_EVERY
            await asyncio.sleep(_REPORT_EVERY)
            self._lag = max(0.0, self._clock.monotonic() - due)
            self.report()

    def report(self, *, draining: bool | None = None) -> None:
        """To all nodes."""
        me = msgspec.structs.replace(
            self.me,
            address=self.address,
            sessions=len(self._delivery.sessions),
            lag=round(self._lag, 4),
            draining=self.me.draining if draining is None else draining,
            trouble=self.trouble(),
            reported_at=self._clock.wall_ms(),
        )
        self.me = me
        self.directory.report(me)
        self.onlooker.look_round()

    def statistics(self) -> InstallationStatistics:
        directory, moving = self.directory.statistics(), self.moving.statistics()
        reason = self.bus.trouble() or self.directory.trouble()
        return InstallationStatistics(
            directory.nodes, directory.sessions, *moving, self._lag, healthy=not reason, reason=reason
        )
