"""A bus by the broker's URL. The provider is imported on first use."""

from __future__ import annotations

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.errors import ConfigError

__all__ = ["make_bus"]


def make_bus(url: str, node: str, clock: Clock) -> Bus:
    """Not open yet. `url`: the broker's. Raises ConfigError."""
    scheme = url.partition("://")[0]
    if scheme in ("redis", "rediss"):
        try:
            from smart_router.bus.redis import RedisBus
            from smart_router.redis.url import RedisUrl
        except ImportError as error:
            raise ConfigError(["broker: redis:// needs an extra: pip install 'smart-router[redis]'"]) from error
        return RedisBus(RedisUrl(url), node)
    if scheme != "embedded":
        raise ConfigError([f"broker: {scheme}:// is not offered by this version: use embedded://"])
    from smart_router.bus.local import LocalBus

    return LocalBus(node)
