"""Settings of the Redis broker, and where in Redis things are."""

from __future__ import annotations

import binascii
from typing import Final

import msgspec

from smart_router.brokers.dedup import MAX_KEYS, WINDOW

__all__ = ["PARTITIONS", "RedisOptions", "dedup_key", "partition_of", "tag_of"]

PARTITIONS: Final = 256


class RedisOptions(msgspec.Struct, frozen=True):
    """`lease`: seconds after which what a silent node held goes to others. `patience`: that a message without an answer
    waits while Redis is away, at most half a lease. `stalled_messages`, `unanswered_bytes`: that may wait."""

    lease: float = 10.0
    patience: float = 3.0
    stalled_messages: int = 1000
    unanswered_bytes: int = 8 * 1024 * 1024
    dedup_window: float = WINDOW
    dedup_keys: int = MAX_KEYS


def partition_of(address: str) -> int:
    """Which partition has the mailbox of that address, on every node."""
    return binascii.crc32(address.encode()) % PARTITIONS


def tag_of(address: str) -> str:
    """What stands between the braces of all keys of that mailbox."""
    return f"{partition_of(address):03d}"


def dedup_key(sender: str, own: str) -> bytes:
    """The last part of the key that remembers a sender's own key: two pairs never have the same."""
    return f"{len(sender)}:{sender}{own}".encode()
