"""What delivery asks of the other nodes (core/installation.py), and a node that has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from smart_router.core.sessions import Session
from smart_router.directory.base import SessionRecord

__all__ = ["Elsewhere", "Nobody", "Nowhere", "Onlooker"]


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


class Onlooker(Protocol):
    """Who wants to know how actors come and go."""

    def moved(self, actor: str) -> None:
        """A session of it here has come, changed or gone."""

    def lost(self, session: SessionRecord) -> None:
        """It is gone, here or on another node; or it comes again at once, changed."""

    def look_at_all(self, *, sure: bool) -> None:
        """What was told may be wrong. `sure`: this node is to make it good; else each may."""

    def look_round(self) -> None:
        """Some seconds have passed."""

    async def catch_up(self, nodes: Iterable[str]) -> None:
        """Something that these nodes told may have been missed."""


class Nobody:
    """Nobody wants to know."""

    def moved(self, actor: str) -> None:
        return

    def lost(self, session: SessionRecord) -> None:
        return

    def look_at_all(self, *, sure: bool) -> None:
        return

    def look_round(self) -> None:
        return

    async def catch_up(self, nodes: Iterable[str]) -> None:
        return
