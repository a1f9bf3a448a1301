"""What this node tells the others of itself and its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from smart_router.directory.announcements import Ask, Changes, Leave, Part, Report, encode, parts
from smart_router.directory.base import NodeRecord, SessionRecord

__all__ = ["TOPIC", "Announcer", "Messenger"]

TOPIC: Final = "directory"


class Messenger(Protocol):
    """What this needs of a Bus (bus/base.py). What a node sends and what it publishes arrive in one order."""

    node: str
    on_up: Callable[[], None]

    def listen(self, topic: str, listener: Callable[[str, bytes], None]) -> None: ...
    def publish(self, topic: str, data: bytes) -> None: ...
    def send(self, node: str, topic: str, data: bytes) -> None: ...
    def trouble(self) -> str: ...


class Announcer:
    """`own`: this node's sessions as they are. `me`: None: says nothing. A turn's changes leave together, numbered."""

    def __init__(self, bus: Messenger, own: Callable[[], Iterable[SessionRecord]]) -> None:
        self.me: NodeRecord | None = None
        self._bus = bus
        self._own = own
        self._count = 0
        self._changed: dict[str, tuple[SessionRecord, bool]] = {}

    def change(self, session: SessionRecord, *, gone: bool) -> None:
        """Of a session's changes in one turn the last counts."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._changed[session.id] = session, gone

    def _flush(self) -> None:
        if not self._changed or self.me is None:
            return
        changed, self._changed = self._changed, {}
        gone = [(session.actor, session.id) for session, is_gone in changed.values() if is_gone]
        for rows in parts(session for session, is_gone in changed.values() if not is_gone):
            self._count += 1
            self._bus.publish(TOPIC, encode(Changes(self._count, rows, gone)))
            gone = []

    def tell_all(self, *, please_answer: bool = False) -> None:
        assert self.me is not None
        self._flush()
        self._bus.publish(TOPIC, encode(Report(self.me, self._count, please_answer)))

    def answer(self, node: str, knows: Iterable[str]) -> None:
        assert self.me is not None
        self._flush()
        self._bus.send(node, TOPIC, encode(Report(self.me, self._count, knows=list(knows))))

    def send_table(self, node: str) -> None:
        self._flush()
        every = list(parts(self._own()))
        for number, rows in enumerate(every):
            part = Part(self._count, number, number == len(every) - 1, rows)
            self._bus.send(node, TOPIC, encode(part))

    def ask(self, node: str) -> None:
        self._bus.send(node, TOPIC, encode(Ask()))

    def leave(self) -> None:
        self._flush()
        self._bus.publish(TOPIC, encode(Leave()))
        self.me = None
