"""What the embedded broker knows of one entry: where it is, and how far its row has come.

state: WAITING ─► HELD ─► GONE          row: NONE (memory) or QUEUED ─► WRITING ─► WRITTEN
          │  ▲──────┘                        a confirmed entry that is still QUEUED is never written
          ├─► COLD (a stub stands for it)
          └─► ENDED ─► GONE
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from smart_router.brokers.base import Entry, PutDone, PutResult
from smart_router.errors import RouterError

if TYPE_CHECKING:
    from smart_router.brokers.mailbox import MailboxSubscription
    from smart_router.brokers.waiting import Waiting

__all__ = [
    "COLD",
    "ENDED",
    "GONE",
    "HELD",
    "LOST",
    "NONE",
    "QUEUED",
    "SAFE",
    "UNTOLD",
    "WAITING",
    "WRITING",
    "WRITTEN",
    "Group",
    "Slot",
    "slot_of",
]

WAITING: Final = 0
HELD: Final = 1
ENDED: Final = 2
GONE: Final = 3
COLD: Final = 4

NONE: Final = 0
QUEUED: Final = 1
WRITING: Final = 2
WRITTEN: Final = 3
LOST: Final = 4
"""Not kept, and the sender was told so: should it come back from its reader, it is forgotten."""
UNTOLD: Final = 5
"""Not kept, and nobody was told: should it come back from its reader, it ends as refused."""

SAFE: Final = PutResult({})


class Slot(msgspec.Struct, eq=False):
    """`deadline`: monotonic ms, 0: never. `order`: number of its first delivery, 0 before. `done`: still to be told."""

    box: Waiting
    seq: int
    row: int
    deadline: int
    done: PutDone | None
    state: int = WAITING
    order: int = 0
    sub: MailboxSubscription | None = None


def slot_of(entry: Entry) -> Slot:
    slot = entry.slot
    assert isinstance(slot, Slot)
    return slot


class Group:
    """The entries of one `put`, answered once: counts the answers of each, and of the dedup row when there is one."""

    __slots__ = ("_done", "_left", "refused")

    def __init__(self, done: PutDone, left: int) -> None:
        self._done = done
        self._left = left
        self.refused: dict[str, RouterError] = {}

    def __call__(self, result: PutResult) -> None:
        self._left -= 1
        if result.refused:
            self.refused.update(result.refused)
        if self._left == 0:
            self._done(PutResult(self.refused) if self.refused else SAFE)
