"""The Store role: what is remembered beside the mailboxes: dead letters, revocations, sub-endpoints, watches.

Every method may be called from the event loop; a provider with blocking I/O does it in a thread of its own. What a call
has awaited is on disk. Times are wall-clock ms since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

__all__ = ["DeadLetter", "DeadLetterFilter", "Revocation", "Store", "StoreStatistics", "SubEndpoint", "Watch"]


class DeadLetter(msgspec.Struct, frozen=True):
    """A message with a bad end, per recipient. Unique by (id, address, type); a repeat replaces."""

    id: str
    address: str
    type: str
    sender: str
    state: str  # brokers.base.End
    reason: str
    at: int  # when the message was accepted
    ended_at: int
    attempts: int
    deliveries: int
    detail: str  # for people: what went wrong, never payload
    body: bytes
    attachments: tuple[bytes, ...] = ()


class DeadLetterFilter(msgspec.Struct, frozen=True):
    address: str | None = None
    sender: str | None = None
    state: str | None = None
    reason: str | None = None
    type: str | None = None
    since: int = 0
    until: int = 0  # 0: no bound
    id: str | None = None


class Revocation(msgspec.Struct, frozen=True):
    """Of a subject or of one token (`jti`): exactly one is set. Tokens issued up to `at` (ms) are void.

    Kept until `expires_at` (ms; 0: for ever).
    """

    at: int
    subject: str | None = None
    jti: str | None = None
    expires_at: int = 0


class SubEndpoint(msgspec.Struct, frozen=True):
    endpoint: str
    id: str
    at: int


class Watch(NamedTuple):
    """`watcher` is told of `actor`'s presence, or not any more (`active`), since `at`."""

    watcher: str
    actor: str
    at: int
    active: bool = True


class StoreStatistics(NamedTuple):
    dead_letters: int
    dead_letters_dropped: int  # the oldest, over the limit of age or number; since it was opened
    revocations: int
    sub_endpoints: int
    healthy: bool
    reason: str


class Store(Protocol):
    """`shared`: all nodes of an installation that have this URL see the same store."""

    shared: bool

    async def open(self) -> None:
        """Runs the migrations; StorageError says what to do."""

    async def close(self) -> None:
        """A second time does nothing. Every other call then raises StorageError."""

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None: ...

    async def dead_letters(
        self, where: DeadLetterFilter, *, after: tuple[int, str, str, str] | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        """Oldest end first; `after`: (ended_at, id, address, type) of the last one seen."""

    async def remove_dead_letters(self, keys: Sequence[tuple[str, str, str]]) -> int:
        """By (id, address, type); how many there were."""

    async def remove_ended(self, ends: Sequence[tuple[int, str, str, str]]) -> int:
        """By (ended_at, id, address, type): what has ended again since then stays; how many there were."""

    async def trim_dead_letters(self, *, older_than: int, keep: int) -> int:
        """Drops those that ended before `older_than` (ms) and the oldest beyond `keep` (0: all); how many went."""

    async def add_revocation(self, revocation: Revocation) -> None:
        """A repeat never weakens: of two for one subject or jti the later `at` and the later expiry hold."""

    async def revocations(self) -> list[Revocation]: ...

    async def trim_revocations(self, now: int) -> int:
        """Drops those whose `expires_at` has come; how many went."""

    async def add_sub_endpoint(self, sub: SubEndpoint) -> bool:
        """False: it was there already."""

    async def sub_endpoints(self) -> list[SubEndpoint]: ...

    async def put_watches(self, watches: Sequence[Watch]) -> None:
        """Of two for one watcher and actor the later `at` holds, whichever comes first."""

    async def watches(self) -> list[Watch]:
        """By watcher and actor; those that are not active any more too."""

    async def trim_watches(self, older_than: int) -> int:
        """Drops those that have not been active since before `older_than` (ms); how many went."""

    async def probe(self) -> None:
        """Writes and reads something small; raises StorageError when that fails (used by /readyz)."""

    def statistics(self) -> StoreStatistics: ...
