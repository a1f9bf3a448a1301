"""A page of all sessions: the partitions' sorted sets, merged.

Each partition is asked for its share and a little more; where that was not enough, for twice as much.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from smart_router.directory.base import SessionRecord
from smart_router.directory.redis_members import PARTITIONS
from smart_router.directory.redis_partitions import ask, sessions_key
from smart_router.redis.base import RedisInstallation

__all__ = ["Elsewhere", "read_page"]

_MORE: Final = 4

Elsewhere = Callable[[Iterable[bytes]], Awaitable[list[SessionRecord]]]
"""The sessions of other nodes among these members."""


async def read_page(
    redis: RedisInstallation,
    bounds: tuple[bytes, bytes],
    own: list[SessionRecord],
    limit: int,
    elsewhere: Elsewhere,
) -> list[SessionRecord]:
    """The first `limit` sessions within the bounds: those of other nodes, and of this one's `own`."""
    first, end = bounds
    starts = dict.fromkeys(range(PARTITIONS), first)
    share = 2 * limit // PARTITIONS + _MORE
    found = own
    while starts:
        answers = await ask(
            redis,
            {
                number: ("ZRANGE", sessions_key(redis, number), start, end, "BYLEX", "LIMIT", 0, share)
                for number, start in starts.items()
            },
        )
        members = [member for some in answers.values() for member in some]
        found = _merged([*found, *await elsewhere(members)])[:limit]
        full = {number: some[-1] for number, some in answers.items() if len(some) == share}
        cut = f"{found[-1].actor} {found[-1].id} ".encode() if len(found) == limit else b"\xff"
        starts = {number: b"(" + last for number, last in full.items() if last < cut}
        share *= 2
    return found


def _merged(sessions: Iterable[SessionRecord]) -> list[SessionRecord]:
    """In order, each once: the two lives of a node may come one after the other."""
    each = {(one.actor, one.id, one.node): one for one in sessions}
    return sorted(each.values(), key=lambda one: (one.actor, one.id))
