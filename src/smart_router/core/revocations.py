"""Revocations: tokens void before their time, by subject or by token id. Live sessions are cut, mailboxes stay.

revoke ─► store (on disk) ─► table ─► listeners (cut sessions, tell the other nodes)
                apply ──────►┘   what another node has revoked
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from smart_router.clock import Clock
from smart_router.core.access import Identity
from smart_router.errors import Refused
from smart_router.stores.base import Revocation

__all__ = ["RevocationListener", "RevocationStatistics", "RevocationStore", "Revocations", "concerns"]

MAX_REVOCATIONS: Final = 100_000

RevocationListener = Callable[[Revocation], None]
_Key = tuple[str | None, str | None]

_log = structlog.get_logger("smart_router.access")


class RevocationStore(Protocol):
    """What of the Store is needed here."""

    async def add_revocation(self, revocation: Revocation) -> None: ...

    async def revocations(self) -> list[Revocation]: ...

    async def trim_revocations(self, now: int) -> int: ...


class RevocationStatistics(NamedTuple):
    revocations: int
    refusals: int  # times that is_revoked was true


def concerns(revocation: Revocation, identity: Identity) -> bool:
    """A token is concerned by its id; or by its subject when it was issued up to then, or does not say when."""
    if revocation.jti is not None:
        return identity.jti == revocation.jti
    return identity.subject == revocation.subject and identity.issued_at <= revocation.at


class Revocations:
    """The table in memory, in step with the store. At most `limit` at a time: beyond, `revoke` refuses with `busy`.

    One that has expired does not count any more; `trim` takes it away.
    """

    def __init__(self, store: RevocationStore, clock: Clock, *, limit: int = MAX_REVOCATIONS) -> None:
        self._store = store
        self._clock = clock
        self._limit = limit
        self._by_key: dict[_Key, Revocation] = {}
        self._listeners: list[RevocationListener] = []
        self._refusals = 0
        self.spread: RevocationListener = lambda _revocation: None
        """Tells the other nodes of one that was made here."""

    def __len__(self) -> int:
        return len(self._by_key)

    async def open(self) -> None:
        """Loads what is remembered. StorageError: better no start than a forgotten revocation."""
        for revocation in await self._store.revocations():
            self._keep(revocation)

    def listen(self, listener: RevocationListener) -> None:
        """`listener` is called at once for each revocation, after the table knows it. What it raises is logged."""
        self._listeners.append(listener)

    async def revoke(self, *, subject: str | None = None, jti: str | None = None, expires_at: int = 0) -> Revocation:
        """On disk and in force when this returns.

        `expires_at`: wall ms after which the tokens meant have expired by themselves; 0: remember for ever. Refused
        `bad_message`: not exactly one of subject and jti. StorageError: nothing changed.
        """
        if (not subject) == (not jti):
            raise Refused("bad_message", "Give a subject or a token id (`jti`) to revoke: exactly one of them.")
        revocation = Revocation(self._clock.wall_ms(), subject or None, jti or None, expires_at)
        if _key(revocation) not in self._by_key:
            await self._make_room()
        await self._store.add_revocation(revocation)
        self.apply(revocation)
        self.spread(revocation)
        return revocation

    async def learn(self, revocation: Revocation) -> None:
        """In force and on disk; from another node. Raises StorageError: it is in force all the same."""
        if self._by_key.get(_key(revocation)) != revocation:
            self.apply(revocation)
        await self._store.add_revocation(revocation)

    def known(self) -> list[Revocation]:
        return list(self._by_key.values())

    def apply(self, revocation: Revocation) -> None:
        """In force from now; not written to the store. For what comes from another node."""
        self._keep(revocation)
        for listener in self._listeners:
            try:
                listener(revocation)
            except Exception:  # noqa: BLE001 - somebody else's code; logged with its trace
                _log.exception("revocation_listener_failed")

    def is_revoked(self, identity: Identity) -> bool:
        """Whether the token is void. Two lookups."""
        revoked = self._is_void(identity, (identity.subject, None))
        if not revoked and identity.jti is not None:
            revoked = self._is_void(identity, (None, identity.jti))
        self._refusals += revoked
        return revoked

    async def trim(self) -> int:
        """Forgets those that have expired, here and in the store; how many there were. To be called now and then."""
        now = self._clock.wall_ms()
        gone = [key for key, one in self._by_key.items() if 0 < one.expires_at <= now]
        for key in gone:
            del self._by_key[key]
        return max(len(gone), await self._store.trim_revocations(now))

    def statistics(self) -> RevocationStatistics:
        return RevocationStatistics(len(self._by_key), self._refusals)

    def _is_void(self, identity: Identity, key: _Key) -> bool:
        found = self._by_key.get(key)
        if found is None or 0 < found.expires_at <= self._clock.wall_ms():
            return False
        return concerns(found, identity)

    async def _make_room(self) -> None:
        if len(self._by_key) >= self._limit:
            await self.trim()
        if len(self._by_key) >= self._limit:
            raise Refused(
                "busy",
                f"There are {self._limit} revocations already. Give them an `expires_at`, and try again later.",
                limit=self._limit,
            )

    def _keep(self, revocation: Revocation) -> None:
        """A repeat never weakens: the later time and the later expiry hold, as in the store."""
        known = self._by_key.get(_key(revocation))
        if known is not None:
            for_ever = 0 in (known.expires_at, revocation.expires_at)
            expires_at = 0 if for_ever else max(known.expires_at, revocation.expires_at)
            at = max(known.at, revocation.at)
            revocation = Revocation(at, revocation.subject, revocation.jti, expires_at)
        self._by_key[_key(revocation)] = revocation


def _key(revocation: Revocation) -> _Key:
    return revocation.subject, revocation.jti
