"""A directory by the setting, or by the broker's URL. The provider is imported on first use."""

from __future__ import annotations

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.directory.base import Directory
from smart_router.errors import ConfigError

__all__ = ["make_directory"]


def make_directory(setting: str | None, broker: str, bus: Bus, clock: Clock) -> Directory:
    """Not open yet. `setting`: `bus`, a Redis URL, or None: as `broker` has it. Raises ConfigError."""
    kind = setting or {"embedded": "local", "redis": "bus", "rediss": "bus"}.get(broker.partition("://")[0], "")
    if kind == "local":
        from smart_router.directory.local import LocalDirectory

        return LocalDirectory()
    if kind == "bus":
        from smart_router.directory.bus import BusDirectory

        return BusDirectory(bus, clock)
    raise ConfigError([f"directory: {kind!r} is not offered by this version"])
