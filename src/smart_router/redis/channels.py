"""Pub/sub, on a connection of its own: Redis ends one whose subscriber is slow, and calls must not end with it."""

from __future__ import annotations

from collections.abc import Callable

from smart_router.redis.base import OnMessage, Reply
from smart_router.redis.link import Link, pack

__all__ = ["Channels"]


class Channels:
    """Who receives what; `link`: the connection that carries it, None while there is none."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        """`on_refused(text)`: Redis does not let us subscribe."""
        self._on_refused = on_refused
        self.link: Link | None = None
        self._receivers: dict[bytes, OnMessage] = {}
        self._was_carried = False

    def carry(self, link: Link) -> bool:
        """Takes this connection for all channels. True: there was one before, and what came meanwhile is lost."""
        self.link = link
        if self._receivers:
            link.write(pack(("SUBSCRIBE", *self._receivers)))
        again, self._was_carried = self._was_carried, True
        return again

    def subscribe(self, channel: bytes, on_message: OnMessage) -> None:
        self._receivers[channel] = on_message
        if self.link is not None:
            self.link.write(pack(("SUBSCRIBE", channel)))

    def unsubscribe(self, channel: bytes) -> None:
        if self._receivers.pop(channel, None) is not None and self.link is not None:
            self.link.write(pack(("UNSUBSCRIBE", channel)))

    def pushed(self, parts: list[Reply]) -> None:
        """From the connection: what Redis sends unasked."""
        if len(parts) == 3 and parts[0] == b"message":
            on_message = self._receivers.get(parts[1])
            if on_message is not None:
                on_message(parts[2])
        elif parts and parts[0] == b"error":
            self._on_refused(str(parts[1]))
