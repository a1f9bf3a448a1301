"""What delivery asks of the other nodes (core/installation.py), and a node that has none."""

from __future__ import annotations

from typing import Protocol

from smart_router.core.sessions import Session

__all__ = ["Elsewhere", "Nowhere"]


class Elsewhere(Protocol):
    """What the sessions here have to do with other nodes."""

    async def arrived(self, session: Session) -> None:
        """It stands in line for its mailboxes: other nodes know it, those with older ones let go. Raises BrokerAway."""

    def parked(self, session: Session) -> None:
        """Its connection is lost. A session of its actor on another node ends it, so that this one takes over."""

    def changed(self, session: Session) -> None:
        """What others know of it is no longer so: its status, its health, or its connection stands again."""

    def left(self, session: Session) -> None:
        """It is over, or never began."""


class Nowhere:
    """A node by itself."""

    async def arrived(self, session: Session) -> None:
        return

    def parked(self, session: Session) -> None:
        return

    def changed(self, session: Session) -> None:
        return

    def left(self, session: Session) -> None:
        return
