"""The Directory role: who is where. Nodes and sessions of the whole installation, each with a lease.

    add(session) ──► known to all nodes until remove, or until its node's lease ends
    of_actor(actor) ──► its sessions, on whichever node

What it says may be a moment old. Who takes from a mailbox is not decided here but by the broker (Broker.subscribe):
the directory tells whom to ask to let go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import msgspec

__all__ = ["Directory", "DirectoryStatistics", "NodeRecord", "SessionRecord", "SessionState"]


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process of the installation, as it says of itself every few seconds.

    `address`: host:port where it listens, "" without the role `gateway`. `lag`: seconds that its event loop was late at
    its last report. `configuration`: a digest of what must be the same on all nodes. Times in wall ms.
    """

    id: str
    roles: tuple[str, ...]
    version: str
    started_at: int
    address: str = ""
    sessions: int = 0
    lag: float = 0.0
    draining: bool = False
    configuration: str = ""
    trouble: str = ""
    reported_at: int = 0


class SessionState(msgspec.Struct, frozen=True, array_like=True):
    """What may change while a session lives. `daemon`: an id, "" if it gave none; `metadata`: a JSON object as text, or
    "". `lease`: seconds that its registration outlives its last activity. `parked`: its connection is lost, and may be
    taken up again.
    """

    daemon: str = ""
    status: str = "active"
    metadata: str = ""
    lease: float = 3600.0
    health: str = "healthy"
    parked: bool = False


_USUAL: Final = SessionState()


class SessionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A live connection of an actor, as all nodes may see it. `since`: wall ms."""

    id: str
    actor: str
    endpoint: str
    node: str
    subject: str
    since: int
    state: SessionState = _USUAL


class DirectoryStatistics(NamedTuple):
    nodes: int  # this one too
    sessions: int  # known here, of all nodes as far as the provider keeps them
    healthy: bool
    reason: str


class Directory(Protocol):
    """`on_node(record, gone)`: another node is new, or is gone (left, or its lease ended) with all its sessions.

    `on_session(record, gone)`: a session on another node has come or gone, where `follows_sessions` is true: then every
    node keeps the whole table. One that has changed has gone and comes as it is now. An attribute, set before `open`.
    """

    follows_sessions: bool
    on_node: Callable[[NodeRecord, bool], None]
    on_session: Callable[[SessionRecord, bool], None]

    async def open(self, me: NodeRecord) -> None:
        """Known to the others, and knows them, when this returns. Raises BrokerAway; StorageError says what to do."""

    async def close(self) -> None:
        """This node and its sessions are gone for all others. A second time does nothing."""

    def report(self, me: NodeRecord) -> None:
        """What this node says of itself from now on; extends its lease. To be called every few seconds."""

    async def add(self, session: SessionRecord) -> list[SessionRecord]:
        """Announces it, or what has changed of it. Its actor's sessions on other nodes, as far as known.

        Raises BrokerAway.
        """

    def remove(self, session: SessionRecord) -> None:
        """It has ended. Never raises; what is lost in an outage is made good when it is over."""

    async def of_actor(self, actor: str) -> list[SessionRecord]:
        """All its sessions, this node's too, oldest first."""

    async def sessions(self, prefix: str = "", after: str = "", limit: int = 100) -> list[SessionRecord]:
        """By (actor, id); `prefix`: of the actor; `after`: "actor id" of the last one seen."""

    async def nodes(self) -> list[NodeRecord]:
        """All nodes that live, this one too, oldest first."""

    def trouble(self) -> str: ...

    def statistics(self) -> DirectoryStatistics: ...
