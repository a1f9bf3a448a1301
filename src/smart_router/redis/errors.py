"""Redis' error answers in our words. The first word of an error is its code (Redis protocol specification)."""

from __future__ import annotations

from typing import Final

from smart_router.errors import StorageError, StorageFull
from smart_router.redis.base import NotNow, ReplyRefused

__all__ = ["LOGIN_ERRORS", "error_of", "is_moved", "is_replica"]

LOGIN_ERRORS: Final = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})
_LATER: Final = {
    "LOADING": "Redis is loading its data",
    "BUSY": "a script of somebody keeps Redis busy",
    "NOSCRIPT": "the script is not loaded there",
    "MOVED": "the keys have moved to another server of the Cluster",
    "ASK": "the keys are moving to another server of the Cluster",
    "TRYAGAIN": "the keys are moving to another server of the Cluster",
    "CLUSTERDOWN": "the Cluster does not serve these keys now",
    "MASTERDOWN": "Redis has lost its master",
    "READONLY": "this Redis is a replica now",
    "NOREPLICAS": "Redis has too few replicas (min-replicas-to-write)",
}


def error_of(text: str) -> StorageError:
    """`text`: of an error answer. Its own words are told only where they cannot hold what a command held."""
    word, _, rest = text.partition(" ")
    if word in _LATER:
        return NotNow(f"{_LATER[word]}: try again soon")
    if word == "OOM":
        return StorageFull("Redis is at its `maxmemory` and takes nothing more: give it more, or let mailboxes empty")
    if word == "MISCONF":
        return StorageFull("Redis cannot save to its disk and takes nothing more: see its log")
    if word in LOGIN_ERRORS:
        return ReplyRefused(word, "Redis does not let this user do that: look at user, password and its ACL")
    return ReplyRefused(word, f"Redis refused a command: {word} {rest[:200]}")


def is_moved(text: str) -> bool:
    """Whether the map of the Cluster's slots is out of date."""
    return text.startswith(("MOVED ", "ASK ", "CLUSTERDOWN"))


def is_replica(text: str) -> bool:
    """Whether the server has become a replica, so that another one must be asked for."""
    return text.startswith(("READONLY", "-READONLY", "MASTERDOWN")) or "READONLY You can't write" in text
