"""What mailboxes are called in RabbitMQ.

    agent/456/alice ─► exchange sr/agent/456, routing key agent/456/alice, queue sr/agent/456/alice
                       lane of priority 8: routing key agent/456/alice#8, queue sr/agent/456/alice#8

Signs outside the alphabet of addresses (`#`, `%`) mark what is ours, so that no two things share a name. An address too
long for AMQP's 255 bytes is cut and has its SHA-256 behind a `%`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from smart_router.errors import ConfigError

__all__ = ["NORMAL", "Names", "is_prefix", "priority_of", "short_form"]

NORMAL: Final = 4
"""The priority of messages that name none: its lane is the mailbox's own queue."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9._~@:+\-]{1,64}\Z")
_LONGEST: Final = 160
_KEPT: Final = 80


def is_prefix(text: str) -> bool:
    """True for what may stand before all names of an installation."""
    return _PREFIX.match(text) is not None


def short_form(address: str) -> str:
    """The address, or what stands for it: at most 160 bytes, and no other address has the same."""
    if len(address) <= _LONGEST:
        return address
    return f"{address[:_KEPT]}%{hashlib.sha256(address.encode()).hexdigest()}"


def priority_of(routing_key: str) -> int:
    """Of the lane that this routing key leads to."""
    _, mark, priority = routing_key.partition("#")
    return int(priority) if mark and priority.isdecimal() else NORMAL


class Names:
    """All names of one installation begin with its prefix."""

    def __init__(self, prefix: str) -> None:
        if not is_prefix(prefix):
            raise ConfigError(["broker.prefix: 1 to 64 of A-Z a-z 0-9 . _ ~ @ : + -"])
        self._prefix = prefix
        self.dead = f"{prefix}#dead"
        """Both the dead-letter exchange and its one queue."""

    def exchange(self, address: str) -> str:
        """Of the (sub-)endpoint that the address belongs to."""
        return f"{self._prefix}/{short_form(address.rpartition('/')[0] or address)}"

    def routing_key(self, address: str, priority: int = NORMAL) -> str:
        return short_form(address) if priority == NORMAL else f"{short_form(address)}#{priority}"

    def queue(self, address: str, priority: int = NORMAL) -> str:
        return f"{self._prefix}/{self.routing_key(address, priority)}"
