"""`options` of a message: what a sender may ask for."""

from __future__ import annotations

from typing import Final

from smart_router.brokers.base import Capability
from smart_router.errors import Refused
from smart_router.message import RECEIPTS, Options

__all__ = ["MAX_REPLY", "check_options"]

MAX_REPLY: Final = 3600
"""Seconds that a sender may wait for a reply."""

_NOT_BUILT: Final = ("deliver", "trace")


def check_options(options: Options, capabilities: frozenset[Capability]) -> None:
    """Raises Refused (`bad_message`, `unsupported`) for what cannot be asked for, of this broker."""
    for name in _NOT_BUILT:
        if getattr(options, name) is not None:
            raise Refused("unsupported", f"`options.{name}` is not offered by this version: leave it out.")
    if options.id is not None and not 0 < len(options.id) <= 64:
        raise Refused("bad_message", "`options.id` must have 1 to 64 characters.")
    if options.ttl is not None and not 0 < options.ttl <= 10**9:
        raise Refused("bad_message", "`options.ttl` must be a number of seconds above 0.")
    if options.priority is not None and not 0 <= options.priority <= 9:
        raise Refused("bad_message", "`options.priority` must be a whole number from 0 (lowest) to 9.")
    if options.receipt is not None and not (options.receipt and RECEIPTS.keys() >= set(options.receipt)):
        raise Refused("bad_message", f"`options.receipt` lists what you want to be told of: {', '.join(RECEIPTS)}.")
    if options.reply is not None and not 0 < options.reply <= MAX_REPLY:
        raise Refused("bad_message", f"`options.reply` must be a number of seconds above 0, at most {MAX_REPLY}.")
    for wanted, capability in ((options.priority, Capability.PRIORITY), (options.supersede, Capability.SUPERSEDE)):
        if wanted is not None and capability not in capabilities:
            raise Refused("unsupported", f"`options.{capability.value}` is not offered by this broker: leave it out.")
