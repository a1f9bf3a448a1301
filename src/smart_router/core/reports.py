"""Where the parts of core report what happened."""

from __future__ import annotations

from typing import NamedTuple

from smart_router.core.ends import Ends
from smart_router.core.events import Events
from smart_router.core.health import Health

__all__ = ["Reports"]


class Reports(NamedTuple):
    """Bad ends (dead letters), events for the program, warnings for monitoring."""

    ends: Ends
    events: Events
    health: Health
