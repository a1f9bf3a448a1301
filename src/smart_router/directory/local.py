"""The directory of a node alone: it knows its own sessions, and there are no others."""

from __future__ import annotations

from collections.abc import Callable

from smart_router.directory.base import DirectoryStatistics, NodeRecord, SessionRecord
from smart_router.directory.table import Table

__all__ = ["LocalDirectory"]


class LocalDirectory:
    """See Directory. Never away."""

    follows_sessions = True

    def __init__(self) -> None:
        self.on_node: Callable[[NodeRecord, bool], None] = lambda record, gone: None
        self.on_session: Callable[[SessionRecord, bool], None] = lambda session, gone: None
        self._table = Table()
        self._me: NodeRecord | None = None

    async def open(self, me: NodeRecord) -> None:
        self._me = me

    async def close(self) -> None:
        self._me = None
        self._table = Table()

    def report(self, me: NodeRecord) -> None:
        if self._me is not None:
            self._me = me

    async def add(self, session: SessionRecord) -> list[SessionRecord]:
        self._table.add(session)
        return []

    def remove(self, session: SessionRecord) -> None:
        self._table.remove(session.actor, session.id, session.node)

    async def of_actor(self, actor: str) -> list[SessionRecord]:
        return list(self._table.of_actor(actor))

    async def sessions(self, prefix: str = "", after: str = "", limit: int = 100) -> list[SessionRecord]:
        return self._table.page(prefix, after, limit)

    async def nodes(self) -> list[NodeRecord]:
        return [] if self._me is None else [self._me]

    def trouble(self) -> str:
        return "the directory is not open" if self._me is None else ""

    def statistics(self) -> DirectoryStatistics:
        reason = self.trouble()
        return DirectoryStatistics(int(self._me is not None), len(self._table), not reason, reason)
