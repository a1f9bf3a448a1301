"""Changes of watched actors' presence, told once, as messages in the watchers' own mailboxes.

a session here came, changed, went ─► the actor's presence now ─ not what was told last ─► `presence` to each watcher
                                                                └─► the other nodes: this was told
A dead node's actors are looked after by the living node with the lowest id. What got lost in between is found by
looking at all of them, some at every report: a difference still there a second later is told by whoever sees it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import structlog

from smart_router.brokers.base import Broker, Capability, Entry, PutResult
from smart_router.clock import Deadlines
from smart_router.core.endpoints import Endpoints
from smart_router.core.installation import Installation, Others
from smart_router.core.own_mailboxes import OwnMailboxes
from smart_router.core.presence import OFFLINE, Look, Presence, Presences
from smart_router.core.watches import Watches
from smart_router.directory.base import SessionRecord
from smart_router.errors import Refused, StorageError
from smart_router.stores.base import Store

__all__ = ["PRESENCE", "Watching", "WatchingStatistics", "make_watching"]

PRESENCE: Final = "presence"

_TOPIC: Final = "presence"
_AT_ONCE: Final = 500
_PAGE: Final = 1000
_PER_REPORT: Final = 100
_PATIENCE: Final = 1.0
"""Seconds until a difference that is not of this node's own making is believed, and until a failure is tried again."""
_BEHIND: Final = 0.3
"""Seconds that the others leave to the node in charge."""
_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack_start: Final = msgspec.msgpack.Decoder(int).decode
_unpack: Final = msgspec.msgpack.Decoder(list[Presence]).decode
_log = structlog.get_logger("smart_router.presence")


class WatchingStatistics(NamedTuple):
    watches: int
    told: int  # messages to watchers that are safe in their mailboxes
    lost: int  # that no mailbox took
    remembered: int  # actors without a session whose end is remembered


class Watching:
    """Implements core.elsewhere.Onlooker; an owner for clock.Deadlines."""

    def __init__(
        self,
        presences: Presences,
        watches: Watches,
        own: OwnMailboxes,
        broker: Broker,
        others: Others,
        deadlines: Deadlines,
    ) -> None:
        bus, _, asking = others
        self.presences = presences
        self.watches = watches
        self._own = own
        self._supersedes = Capability.SUPERSEDE in broker.capabilities
        self._bus = bus
        self._asking = asking
        self._deadlines = deadlines
        self._clock = deadlines.clock
        self.queued: float | None = None
        self._told: dict[str, Presence] = {}
        """By watched actor, what its watchers were told last, by whichever node."""
        self._due: list[tuple[float, str, bool]] = []
        self._dirty: dict[str, bool] = {}
        """To be looked at now; whether a difference is believed at once."""
        self._doubted: set[str] = set()
        self._round: Iterator[str] = iter(())
        self._worker: asyncio.Task[None] | None = None
        self._sent = self._lost = 0
        self.in_charge: Callable[[], bool] = lambda: True
        """Whether this node has the lowest id of those that live."""
        self._begins_at = self._clock.monotonic() + presences.longest_grace()
        bus.listen(_TOPIC, self._heard)
        asking.answer(_TOPIC, self._asked)

    # what happens

    def moved(self, actor: str) -> None:
        """A session of it here has come, changed or gone."""
        if self.watches.watchers(actor):
            self._look_at(actor, sure=True)
            self._plan(actor, _PATIENCE, sure=True)  # two nodes' sessions may have gone at once

    def look_at_all(self, *, sure: bool) -> None:
        """A node is gone, or could not be heard for a while."""
        for actor in self.watches.watched():
            self._look_at(actor, sure=sure)
            if sure:
                self._plan(actor, _PATIENCE, sure=True)

    def look_round(self) -> None:
        """At some of all, in turn. Not at once after the start, when nobody has come back yet."""
        if self._clock.monotonic() < self._begins_at:
            return
        for _ in range(_PER_REPORT):
            actor = next(self._round, None)
            if actor is None:
                self._round = self.watches.watched()
                self._told = {actor: one for actor, one in self._told.items() if self.watches.watchers(actor)}
                return
            self._look_at(actor, sure=False)

    async def watch(self, watcher: str, actors: Sequence[str]) -> list[Presence]:
        """It is told of every change from what is returned. Raises Refused, StorageError: then it watches none more."""
        await self.watches.watch(watcher, actors)
        found = await self.presences.of_many(actors)
        self._begin(found)
        return found

    def _begin(self, presences: Iterable[Presence]) -> None:
        fresh = [one for one in presences if one.actor not in self._told]
        if fresh:
            self._note(fresh)
            self._bus.publish(_TOPIC, _pack(fresh))
        for one in fresh:  # another node may have seen a change before it knew of the watch
            self._plan(one.actor, _PATIENCE, sure=True)

    def _heard(self, node: str, data: bytes) -> None:
        """Another node has told it."""
        self._note(_unpack(data))

    def _note(self, presences: Iterable[Presence]) -> None:
        for one in presences:
            if self.watches.watchers(one.actor):
                self._told[one.actor] = one
            self._doubted.discard(one.actor)

    async def _asked(self, node: str, data: bytes) -> bytes:
        """A page of what was told, from that one on."""
        start = _unpack_start(data)
        return _pack(list(islice(self._told.values(), start, start + _PAGE)))

    async def catch_up(self, nodes: Iterable[str]) -> None:
        """Learns what these nodes know; who does not answer is passed over."""
        await self.watches.catch_up(nodes)
        for node in nodes:
            start = 0
            while answer := await self._asking.ask(node, _TOPIC, _pack(start)):
                page = _unpack(answer)
                for one in page:
                    self._told.setdefault(one.actor, one)
                start += len(page)
                if len(page) < _PAGE:
                    break

    # time

    @property
    def deadline(self) -> float | None:
        return self._due[0][0] if self._due else None

    def handle_timer(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, actor, sure = heapq.heappop(self._due)
            self._look_at(actor, sure=sure)

    def _plan(self, actor: str, seconds: float, *, sure: bool) -> None:
        """To be looked at again then; by the node in charge before others, that not two of them tell the same."""
        at = self._clock.monotonic() + seconds + (0.0 if self.in_charge() else _BEHIND)
        heapq.heappush(self._due, (at, actor, sure))
        self._deadlines.watch(self)

    # looking

    def _look_at(self, actor: str, *, sure: bool) -> None:
        self._dirty[actor] = sure or self._dirty.get(actor, False)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._dirty:
                batch = {actor: self._dirty.pop(actor) for actor in list(self._dirty)[:_AT_ONCE]}
                try:
                    looks = await self.presences.look_at(list(batch))
                except StorageError:  # the directory is away, and says so; all of this is looked at again in its turn
                    continue
                self._compare(looks, batch)
        finally:
            self._worker = None

    def _compare(self, looks: Iterable[Look], sure: dict[str, bool]) -> None:
        news = []
        for presence, due in looks:
            actor = presence.actor
            told = self._told.get(actor)
            unseen = told is not None and OFFLINE == presence.presence != told.presence and presence.last_seen is None
            again_at = self.presences.missing(actor, told.presence) if told is not None and unseen else due
            if again_at is not None:
                self._plan(actor, again_at - self._clock.monotonic(), sure=sure[actor])
            elif told is None or told.presence != presence.presence:
                if sure[actor] or actor in self._doubted:
                    news.append(presence)
                else:
                    self._doubted.add(actor)
                    self._plan(actor, _PATIENCE, sure=False)
                continue
            self._doubted.discard(actor)
        if news:
            self._tell(news)

    # telling

    def _tell(self, news: list[Presence]) -> None:
        self._note(news)
        self._bus.publish(_TOPIC, _pack(news))
        at = self._clock.wall_ms()
        for presence in news:
            watchers = list(self.watches.watchers(presence.actor))
            for start in range(0, len(watchers), _AT_ONCE):
                self._put(presence, at, watchers[start : start + _AT_ONCE])

    def _put(self, presence: Presence, at: int, watchers: list[str]) -> None:
        payload = {
            "actor": presence.actor,
            "presence": presence.presence,
            "at": at,
            "last_seen": presence.last_seen,
        }
        fields = _encode({"ids": {}, "metadata": {}, "payload": payload})[1:]
        entries: list[Entry] = []
        for watcher in watchers:
            try:
                entry = self._own.entry(watcher, PRESENCE, fields)
            except Refused as error:
                self._lose(watcher, error)
                continue
            if self._supersedes:
                entry.message.supersede = f"presence:{presence.actor}"
            entries.append(entry)
        if entries:
            self._own.put(entries, lambda result: self._put_done(presence.actor, len(entries), result))

    def _put_done(self, actor: str, count: int, result: PutResult) -> None:
        self._sent += count - len(result.refused)
        for watcher, error in result.refused.items():
            if error.temporary:
                self._told.pop(actor, None)
                self._plan(actor, _PATIENCE, sure=True)
            else:
                self._lose(watcher, error)

    def _lose(self, watcher: str, error: Exception) -> None:
        self._lost += 1
        _log.debug("presence_not_told", watcher=watcher, error=str(error))

    def lost(self, session: SessionRecord) -> None:
        self.presences.lost(session)

    async def open(self) -> None:
        """Raises StorageError."""
        await self.watches.open()

    async def close(self) -> None:
        await self.watches.close()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)

    def statistics(self) -> WatchingStatistics:
        return WatchingStatistics(len(self.watches), self._sent, self._lost, len(self.presences))


def make_watching(
    own: OwnMailboxes,
    broker: Broker,
    store: Store,
    endpoints: Endpoints,
    installation: Installation,
    deadlines: Deadlines,
) -> Watching:
    """The installation tells it from now on; to be opened before that is."""
    others = Others(installation.bus, installation.directory, installation.asking)
    presences = Presences(installation.directory, endpoints, installation.bus, deadlines.clock)
    watches = Watches(store, installation.bus, installation.asking, deadlines.clock)
    watching = Watching(presences, watches, own, broker, others, deadlines)
    watching.in_charge = installation.in_charge
    installation.onlooker = watching
    return watching
