"""The Bus role: what the nodes of one installation tell each other.

    publish(topic, data) ──► every other node ──► its listener of the topic
    send(node, topic, data) ──► that one

At most once, in the order of its publisher. Nobody's message depends on it: what must not be lost is in a mailbox or a
store, and whoever listens must cope with what it missed (`on_up`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = ["MAX_DATA", "Bus", "BusStatistics", "Listener"]

MAX_DATA = 1024 * 1024
"""Bytes of one publication; a longer one is the caller's mistake."""

Listener = Callable[[str, bytes], None]
"""(id of the publishing node, data). Called from the event loop. What it raises is logged, and ends nothing."""


class BusStatistics(NamedTuple):
    published: int
    received: int
    ignored: int  # not ours, malformed, or of a topic that nobody listens to
    lost: int  # published while the bus was away
    healthy: bool
    reason: str


class Bus(Protocol):
    """`node`: this node's id, unique among all nodes that ever were. A node does not hear itself.

    `on_up`: called when the bus is there again after an outage: what was published meanwhile, here and elsewhere, is
    lost.
    """

    node: str
    on_up: Callable[[], None]

    async def open(self) -> None:
        """Hears all that is published from now on; raises BrokerAway, or StorageError with what to do."""

    async def close(self) -> None:
        """What was published has left; a second time does nothing."""

    def listen(self, topic: str, listener: Listener) -> None:
        """One listener per topic (letters, digits, `.` and `-`, at most 64)."""

    def publish(self, topic: str, data: bytes) -> None:
        """To every other node. Never raises for an outage: counted as lost then."""

    def send(self, node: str, topic: str, data: bytes) -> None:
        """To that node; to nobody if there is none."""

    def trouble(self) -> str:
        """Why it does not work now; "" when it does."""

    def statistics(self) -> BusStatistics: ...
