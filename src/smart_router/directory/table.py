"""Sessions in memory, by actor: what a provider that keeps the whole table keeps them in.

Some 400 bytes a session, of which its own texts are the greater part: no second index, an actor's few sessions in a
tuple, endpoint and node shared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from smart_router.directory.base import SessionRecord

__all__ = ["Table", "split_after"]


class Table:
    """A session is known by its node and id: one that was resumed elsewhere is another."""

    def __init__(self) -> None:
        self._by_actor: dict[str, tuple[SessionRecord, ...]] = {}
        self._count = 0
        self._order: list[str] = []
        self._in_order = True

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SessionRecord]:
        for records in self._by_actor.values():
            yield from records

    def add(self, session: SessionRecord) -> SessionRecord | None:
        """The one that it replaces, if any."""
        old = self._by_actor.get(session.actor, ())
        same = next((one for one in old if one.id == session.id and one.node == session.node), None)
        if same is not None:
            old = tuple(one for one in old if one is not same)
        elif not old:
            self._in_order = False
        self._by_actor[session.actor] = tuple(sorted((*old, session), key=_age)) if old else (session,)
        self._count += same is None
        return same

    def has(self, session: SessionRecord) -> bool:
        """As it is, or as it was."""
        here = self._by_actor.get(session.actor, ())
        return any(one.id == session.id and one.node == session.node for one in here)

    def remove(self, actor: str, id_: str, node: str) -> SessionRecord | None:
        """What went; None if it was not there."""
        old = self._by_actor.get(actor, ())
        gone = next((one for one in old if one.id == id_ and one.node == node), None)
        if gone is None:
            return None
        self._count -= 1
        if len(old) > 1:
            self._by_actor[actor] = tuple(one for one in old if one is not gone)
        else:
            del self._by_actor[actor]
        return gone

    def of_actor(self, actor: str) -> tuple[SessionRecord, ...]:
        """Oldest first."""
        return self._by_actor.get(actor, ())

    def of_node(self, node: str) -> list[SessionRecord]:
        return [one for one in self if one.node == node]

    def page(self, prefix: str, after: str, limit: int) -> list[SessionRecord]:
        """See Directory.sessions."""
        order = self._sorted()
        last_actor, last_id = split_after(after)
        start = max(bisect_left(order, prefix), bisect_left(order, last_actor))
        found: list[SessionRecord] = []
        for index in range(start, len(order)):
            actor = order[index]
            if len(found) >= limit or not actor.startswith(prefix):
                break
            records = sorted(self._by_actor.get(actor, ()), key=_name)
            if actor == last_actor:
                records = records[bisect_right(records, last_id, key=lambda one: one.id) :]
            found += records
        return found[:limit]

    def _sorted(self) -> list[str]:
        """The actors in order; made again when one is new. Those that have gone stay in it until then."""
        if not self._in_order or len(self._order) > 2 * len(self._by_actor):
            self._order = self._merged()
            self._in_order = True
        return self._order

    def _merged(self) -> list[str]:
        """The old order and then the new ones: what is mostly in order sorts in a fraction of the time."""
        kept = [actor for actor in self._order if actor in self._by_actor]
        known = set(kept)
        kept += [actor for actor in self._by_actor if actor not in known]
        kept.sort()
        return kept


def split_after(after: str) -> tuple[str, str]:
    """The actor and the id in `after` of Directory.sessions."""
    actor, _, id_ = after.partition(" ")
    return actor, id_


def _age(session: SessionRecord) -> tuple[int, str]:
    return session.since, session.id


def _name(session: SessionRecord) -> str:
    return session.id
