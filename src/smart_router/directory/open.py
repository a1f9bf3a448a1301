"""A directory by the setting, or by the broker's URL. The provider is imported on first use."""

from __future__ import annotations

from typing import Final

from smart_router.clock import Clock
from smart_router.directory.announcer import Messenger
from smart_router.directory.base import Directory
from smart_router.directory.bus import BusDirectory
from smart_router.directory.local import LocalDirectory
from smart_router.errors import ConfigError

__all__ = ["make_directory"]

_BY_BROKER: Final = {"embedded": "local", "amqp": "bus", "amqps": "bus"}
_REDIS: Final = ("redis://", "rediss://")


def make_directory(setting: str | None, broker: str, bus: Messenger, clock: Clock) -> Directory:
    """Not open yet. `setting`: `local`, `bus`, a Redis URL, or None: as `broker` has it. Raises ConfigError.

    On Redis the broker's URL is the directory's too.
    """
    kind = setting or _BY_BROKER.get(broker.partition("://")[0], broker)
    if kind == "local":
        return LocalDirectory()
    if kind == "bus":
        return BusDirectory(bus, clock)
    if kind.startswith(_REDIS):
        return _redis(kind, "directory" if setting else "broker.url", bus.node, clock)
    raise ConfigError(["directory: write `local`, `bus`, or a Redis as redis://user:password@host:port/0"])


def _redis(url: str, setting: str, node: str, clock: Clock) -> Directory:
    try:
        from smart_router.directory.redis import RedisDirectory
        from smart_router.redis.url import RedisUrl
    except ModuleNotFoundError as error:
        text = f"needs the package {error.name}: pip install 'smart-router[redis]'"
        raise ConfigError([f"{setting}: redis:// {text}"]) from error
    return RedisDirectory(RedisUrl(url, setting), node, clock)
