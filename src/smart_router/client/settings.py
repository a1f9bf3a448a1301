"""The limits and times of a client. Each has a default that fits a program with one connection."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["ClientSettings"]


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes. First what the session says of itself when it registers; None: the usual."""

    daemon: str | None = None
    status: str | None = None
    """`active`, `idle` or `away`; `Client.set_status` changes it."""
    metadata: Mapping[str, object] | None = None
    lease: float | None = None
    """How long the registration outlives the last sign of life."""

    queue_messages: int = 1_000
    """Sends that wait or are unanswered; at the limit `send` and `post` raise Refused `busy`."""
    queue_bytes: int = 8 * 1024 * 1024
    inbox_messages: int = 1_024
    """Received and not taken; at the limit reading from the connection stops, which holds up answers to sends too."""
    dedup_keys: int = 10_000
    """How many messages are remembered in order to drop their repeats; the oldest are forgotten first."""
    first_delay: float = 0.5
    """Bound of the random wait before the first try to reconnect; doubles with each try, up to `max_delay`."""
    max_delay: float = 30.0
    open_timeout: float = 10.0
    """To connect, and once more to get `hello`."""
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    """A connection whose ping is unanswered for so long counts as cut."""
    max_frame: int = 1024 * 1024
    """The largest frame taken from the server."""
    drain: float = 5.0
    """How long `close` waits for the answers to what was sent."""
