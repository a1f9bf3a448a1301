"""What this Redis keeps when it ends, and its clock: told at the start; `durable` cannot be more than that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smart_router.errors import StorageError
from smart_router.redis.client import Redis

__all__ = ["look_at_clock", "look_at_persistence"]

_APART: Final = 5.0
"""Seconds between two clocks that are no accident any more."""

_EVICTING: Final = (
    "Redis' maxmemory-policy is {value}: at `maxmemory` it throws accepted messages away; set it to noeviction"
)
_NOTHING: Final = (
    "Redis keeps nothing on disk (no appendonly, no save): durable messages are lost when it ends; set appendonly yes"
)
_SNAPSHOTS: Final = (
    "Redis keeps snapshots only (no appendonly): what was accepted since the last one is lost when it ends; set"
    " appendonly yes"
)
_SYNC: Final = {
    "everysec": "Redis syncs its log each second (appendfsync everysec): it outlives kill -9, but a power cut may lose"
    " the last second's messages",
    "no": "Redis leaves it to the system when its log reaches the disk (appendfsync no): it outlives kill -9, but a"
    " power cut may lose half a minute's messages",
}


async def look_at_clock(redis: Redis, wall_ms: Callable[[], int], warn: Callable[[str], None]) -> None:
    """Messages expire by the nodes' clocks: one that differs from Redis' own is told."""
    seconds, micros = await redis.call("0", "TIME")
    apart = wall_ms() / 1000 - int(seconds) - int(micros) / 1e6
    if abs(apart) > _APART:
        text = (
            f"this node's clock and Redis' are {abs(apart):.0f} s apart: messages expire too early or too late; use NTP"
        )
        warn(text)


async def look_at_persistence(redis: Redis, warn: Callable[[str], None]) -> None:
    """ConfigError: a policy that evicts keys that do not expire. A Redis that does not tell (a hosted one) is believed.

    `warn(text)`: once for each thing that an operator should know.
    """
    told: set[str] = set()
    for server in redis.servers():
        tag = redis.tag_for(server)
        try:
            answer = await redis.call(tag, "CONFIG", "GET", "maxmemory*", "appendonly", "appendfsync", "save")
        except StorageError:
            continue
        settings = {name.decode(): value.decode() for name, value in answer.items()}
        policy = settings.get("maxmemory-policy", "noeviction")
        if policy.startswith("allkeys"):
            if settings.get("maxmemory", "0") != "0":
                raise redis.url.wrong(_EVICTING.format(value=policy))
            told.add(_EVICTING.format(value=policy))
        if settings.get("appendonly") == "no":
            told.add(_SNAPSHOTS if settings.get("save") else _NOTHING)
        elif settings.get("appendonly") == "yes" and settings.get("appendfsync") in _SYNC:
            told.add(_SYNC[settings["appendfsync"]])
    for text in sorted(told):
        warn(text)
