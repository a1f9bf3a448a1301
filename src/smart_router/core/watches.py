"""Who is told of whose presence: known on all nodes, kept in the store.

watch, unwatch ─► own store ─► bus ─► the others: own store        a newcomer asks for all of them
What has ended is remembered for a week, so that a node that was away does not bring it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import structlog

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.core.asking import Asking
from smart_router.errors import Refused, RouterError
from smart_router.stores.base import Store, Watch

__all__ = ["MAX_WATCHED", "MAX_WATCHES", "Watches"]

MAX_WATCHED: Final = 1000
"""Actors that one actor watches."""

MAX_WATCHES: Final = 500_000
"""Of all actors together; about 300 bytes each on every node."""

_TOPIC: Final = "watches"
_PAGE: Final = 1000
_KEPT_MS: Final = 7 * 86_400_000
_encode: Final = msgspec.msgpack.Encoder().encode
_log = structlog.get_logger("smart_router.presence")


class _Page(NamedTuple):
    watches: list[Watch]
    more: bool


_decode: Final = msgspec.msgpack.Decoder(list[Watch]).decode
_decode_page: Final = msgspec.msgpack.Decoder(_Page).decode
_decode_start: Final = msgspec.msgpack.Decoder(int).decode


class Watches:
    """All of the installation."""

    def __init__(self, store: Store, bus: Bus, asking: Asking, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._asking = asking
        self._clock = clock
        self._rows: dict[str, dict[str, int]] = {}
        """By watcher and actor: since when; below 0: no more since then."""
        self._watchers: dict[str, set[str]] = {}
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()
        bus.listen(_TOPIC, self._heard)
        asking.answer(_TOPIC, self._asked)

    def __len__(self) -> int:
        return self._active

    async def open(self) -> None:
        """Raises StorageError."""
        await self._store.trim_watches(self._clock.wall_ms() - _KEPT_MS)
        self._apply(await self._store.watches())

    def watchers(self, actor: str) -> Iterable[str]:
        return self._watchers.get(actor, ())

    def watched(self) -> Iterator[str]:
        """Every actor that somebody watches."""
        return iter(list(self._watchers))

    def of(self, watcher: str) -> list[str]:
        """Whom it watches."""
        return [actor for actor, at in self._rows.get(watcher, {}).items() if at > 0]

    async def watch(self, watcher: str, actors: Sequence[str]) -> None:
        """In the store when this returns. Raises Refused, StorageError: nothing has changed then."""
        old = self.of(watcher)
        if len({*old, *actors}) > MAX_WATCHED:
            raise Refused(
                "too_many_watches",
                f"An actor watches {MAX_WATCHED} others at most; this one has {len(old)}: give some up (`unwatch`).",
                limit=MAX_WATCHED,
            )
        if self._active + len(actors) > MAX_WATCHES:
            raise Refused("too_many_watches", "All actors together watch too many others.", limit=MAX_WATCHES)
        await self._change(watcher, [actor for actor in actors if actor not in old], active=True)

    async def unwatch(self, watcher: str, actors: Sequence[str]) -> None:
        """As `watch`; whom it does not watch is passed over."""
        old = set(self.of(watcher))
        await self._change(watcher, [actor for actor in actors if actor in old], active=False)

    async def _change(self, watcher: str, actors: Sequence[str], *, active: bool) -> None:
        if not actors:
            return
        now = self._clock.wall_ms()
        known = self._rows.get(watcher, {})
        changed = [Watch(watcher, actor, max(now, abs(known.get(actor, 0)) + 1), active) for actor in actors]
        await self._store.put_watches(changed)
        self._apply(changed)
        self._bus.publish(_TOPIC, _encode(changed))

    def _apply(self, watches: Iterable[Watch]) -> list[Watch]:
        """Those that were new."""
        fresh = []
        for watch in watches:
            known = self._rows.setdefault(watch.watcher, {})
            before = known.get(watch.actor, 0)
            if watch.at > abs(before):
                known[watch.actor] = watch.at if watch.active else -watch.at
                self._active += watch.active - (before > 0)
                self._index(watch)
                fresh.append(watch)
        return fresh

    def _index(self, watch: Watch) -> None:
        if watch.active:
            self._watchers.setdefault(watch.actor, set()).add(watch.watcher)
            return
        watchers = self._watchers.get(watch.actor, set())
        watchers.discard(watch.watcher)
        if not watchers:
            self._watchers.pop(watch.actor, None)

    # the other nodes

    def _heard(self, node: str, data: bytes) -> None:
        fresh = self._apply(_decode(data))
        if fresh:
            task = asyncio.get_running_loop().create_task(self._remember(fresh))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _remember(self, watches: list[Watch]) -> None:
        try:
            await self._store.put_watches(watches)
        except RouterError as error:
            _log.error("watches_not_remembered", error=error.message)

    async def _asked(self, node: str, data: bytes) -> bytes:
        """From that one on. Nothing leaves the table, so what is new moves none of it to before the page."""
        start = _decode_start(data)
        every = ((watcher, actor, at) for watcher, known in self._rows.items() for actor, at in known.items())
        rows = list(islice(every, start, start + _PAGE + 1))
        page = [Watch(watcher, actor, abs(at), at > 0) for watcher, actor, at in rows[:_PAGE]]
        return _encode(_Page(page, len(rows) > _PAGE))

    async def catch_up(self, nodes: Iterable[str]) -> None:
        """Learns what these nodes know; who does not answer is passed over."""
        for node in nodes:
            start, more = 0, True
            while more:
                answer = await self._asking.ask(node, _TOPIC, _encode(start))
                if answer is None:
                    break
                watches, more = _decode_page(answer)
                await self._remember(self._apply(watches))
                start += len(watches)

    async def close(self) -> None:
        """What was heard is remembered."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
