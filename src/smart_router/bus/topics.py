"""Who listens to which topic on this node, and what a bus counts: the part that every provider has."""

from __future__ import annotations

import re
from typing import Final

import structlog

from smart_router.bus.base import MAX_DATA, BusStatistics, Listener

__all__ = ["Topics"]

_TOPIC: Final = re.compile(r"[A-Za-z0-9.-]{1,64}\Z")

_log = structlog.get_logger("smart_router.bus")


class Topics:
    def __init__(self) -> None:
        self.published = 0
        self.received = 0
        self.ignored = 0
        self.lost = 0
        self._listeners: dict[str, Listener] = {}

    def listen(self, topic: str, listener: Listener) -> None:
        check_topic(topic)
        if topic in self._listeners:
            raise ValueError(f"{topic} has a listener on this node already")
        self._listeners[topic] = listener

    def check(self, topic: str, data: bytes) -> None:
        """Raises ValueError for what may not be published."""
        check_topic(topic)
        if len(data) > MAX_DATA:
            raise ValueError(f"{len(data)} bytes on {topic}: a publication has at most {MAX_DATA}")

    def hear(self, node: str, topic: str, data: bytes) -> None:
        """What another node has published."""
        listener = self._listeners.get(topic)
        if listener is None:
            self.ignored += 1
            return
        self.received += 1
        try:
            listener(node, data)
        except Exception:  # noqa: BLE001 - somebody else's code; logged with its trace
            _log.exception("bus_listener_failed", topic=topic, node=node)

    def statistics(self, trouble: str) -> BusStatistics:
        return BusStatistics(self.published, self.received, self.ignored, self.lost, not trouble, trouble)


def check_topic(topic: str) -> None:
    if not _TOPIC.match(topic):
        raise ValueError(f"{topic!r} is no topic: letters, digits, `.` and `-`, at most 64")
