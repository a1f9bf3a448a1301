"""Events of the router for the program around it (specs: mailbox routing, Events)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

import structlog

from smart_router.errors import Refused

__all__ = ["EVENTS", "EventHandler", "Events"]

EVENTS: Final = frozenset(
    {
        "message.routed",
        "message.routing_failed",
        "message.routing_error",
        "message.queued",
        "message.dropped",
        "message.expired",
        "message.acknowledged",
        "session.registered",
        "session.unregistered",
        "session.expired",
        "session.health",
    }
)

EventHandler = Callable[[dict[str, Any]], None]
_log = structlog.get_logger("smart_router.events")


class Events:
    """Handlers by event name. A handler that raises is logged and disturbs nothing."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._handlers: defaultdict[str, list[EventHandler]] = defaultdict(list)
        self.routed = False
        """Whether anybody wants `message.routed`, which is looked at for each delivery."""

    def on(self, name: str, handler: EventHandler) -> None:
        if name not in EVENTS:
            raise Refused("unknown_event", f"There is no event {name!r}; there are: {', '.join(sorted(EVENTS))}.")
        self._handlers[name].append(handler)
        self.routed = "message.routed" in self._handlers

    def wanted(self, name: str) -> bool:
        """Ask before building what `emit` takes, where messages pass by the ten thousand."""
        return name in self._handlers

    def emit(self, name: str, **fields: Any) -> None:
        for handler in self._handlers.get(name, ()):
            try:
                handler({"type": name, "timestamp": self._wall_ms(), **fields})
            except Exception:  # noqa: BLE001 (the program's own code may raise anything)
                _log.exception("event_handler_failed", event_name=name)
