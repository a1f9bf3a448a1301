"""Settings of the embedded broker, and where its journal is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from smart_router.brokers.dedup import MAX_KEYS, WINDOW
from smart_router.errors import ConfigError

__all__ = ["EmbeddedOptions", "journal_path"]

_SCHEME: Final = "embedded://"
_JOURNAL: Final = "journal.db"


class EmbeddedOptions(msgspec.Struct, frozen=True):
    """`commit_delay`: seconds that the row of a delivered message waits for its confirmation, 0: none.

    `memory_limit`: bytes that may wait in memory mailboxes. `probe_every`: seconds between looks for room on the disk.
    """

    commit_delay: float = 0.005
    memory_limit: int = 1024 * 1024 * 1024
    dedup_window: float = WINDOW
    dedup_keys: int = MAX_KEYS
    probe_every: float = 1.0


def journal_path(url: str) -> Path | None:
    """The journal's file, None for memory. A folder, or what ends with a slash, gets a file of our name in it."""
    if not url.startswith(_SCHEME) or url == _SCHEME:
        raise ConfigError([f"broker {url!r}: write embedded://memory or embedded://PATH"])
    name = url.removeprefix(_SCHEME)
    if name == "memory":
        return None
    path = Path(name)
    return path / _JOURNAL if name.endswith("/") or path.is_dir() else path
