"""Settings of the embedded broker."""

from __future__ import annotations

import msgspec

from smart_router.brokers.dedup import MAX_KEYS, WINDOW

__all__ = ["EmbeddedOptions"]


class EmbeddedOptions(msgspec.Struct, frozen=True):
    """`commit_delay`: seconds that the row of a delivered message waits for its confirmation, 0: none.

    `memory_limit`: bytes that may wait in memory mailboxes. `probe_every`: seconds between looks for room on the disk.
    """

    commit_delay: float = 0.005
    memory_limit: int = 1024 * 1024 * 1024
    dedup_window: float = WINDOW
    dedup_keys: int = MAX_KEYS
    probe_every: float = 1.0
