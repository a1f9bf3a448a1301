"""A broker by its URL. The provider is imported on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smart_router.brokers.base import Broker, OnEnd
from smart_router.clock import Clock
from smart_router.config.schema import BrokerSettings
from smart_router.errors import ConfigError, StorageError

__all__ = ["make_broker"]


def make_broker(
    settings: BrokerSettings,
    data: Path,
    clock: Clock,
    *,
    on_end: OnEnd,
    on_failed: Callable[[StorageError], None],
    on_warning: Callable[[str], None],
) -> Broker:
    """Not open yet. `embedded://`: in the data folder; `embedded://PATH`; `embedded://memory`; `redis://…`;
    `amqp://…`.

    `on_failed`: it will not work again. `on_warning`: what an operator should know. Raises ConfigError.
    """
    scheme, separator, rest = settings.url.partition("://")
    if scheme in ("redis", "rediss"):
        return _redis(settings, clock, on_end, on_warning)
    if scheme in ("amqp", "amqps"):
        from smart_router.brokers.rabbitmq import RabbitBroker, RabbitOptions

        return RabbitBroker(settings.url, clock, options=RabbitOptions(prefix=settings.prefix), on_end=on_end)
    if scheme != "embedded" or not separator:
        raise ConfigError([f"broker: {scheme}:// is not offered by this version: use embedded://"])
    from smart_router.brokers.embedded import EmbeddedBroker, EmbeddedOptions

    url = settings.url if rest else f"embedded://{data}/"
    options = EmbeddedOptions(commit_delay=settings.commit_delay)
    return EmbeddedBroker(url, clock, options=options, on_end=on_end, on_failed=on_failed)


def _redis(settings: BrokerSettings, clock: Clock, on_end: OnEnd, on_warning: Callable[[str], None]) -> Broker:
    try:
        from smart_router.brokers.redis import RedisBroker, RedisOptions
        from smart_router.redis.url import RedisUrl
    except ImportError as error:
        raise ConfigError(["broker: redis:// needs an extra: pip install 'smart-router[redis]'"]) from error
    options = RedisOptions(lease=settings.lease)
    return RedisBroker(RedisUrl(settings.url), clock, options=options, on_end=on_end, on_warning=on_warning)
