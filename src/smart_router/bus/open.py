"""A bus by the broker's URL. The provider is imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple, cast

from smart_router.bus.base import Bus
from smart_router.clock import Clock
from smart_router.errors import ConfigError

__all__ = ["PROVIDERS", "Provider", "make_bus"]


class Provider(NamedTuple):
    """Where the class is; `extra`: what to install for it, "" when nothing is missing without."""

    module: str
    make: str
    """A callable of the module: (URL, node's id) → Bus; with `prefixed`: (URL, node's id, prefix) → Bus."""
    extra: str = ""
    prefixed: bool = False


PROVIDERS: Final[dict[str, Provider]] = {
    "amqp": Provider("smart_router.bus.amqp", "from_url", prefixed=True),
    "amqps": Provider("smart_router.bus.amqp", "from_url", prefixed=True),
    "embedded": Provider("smart_router.bus.local", "from_url"),
    "redis": Provider("smart_router.bus.redis", "from_url", "redis"),
    "rediss": Provider("smart_router.bus.redis", "from_url", "redis"),
}


def make_bus(
    url: str, node: str, clock: Clock, providers: Mapping[str, Provider] = PROVIDERS, *, prefix: str = "smart-router"
) -> Bus:
    """Not open yet. `url` and `prefix`: the broker's. Raises ConfigError."""
    scheme = url.partition("://")[0]
    provider = providers.get(scheme)
    if provider is None:
        offered = ", ".join(f"{name}://" for name in providers)
        raise ConfigError([f"broker.url: {scheme}:// is not offered by this version; there is: {offered}"])
    try:
        module = import_module(provider.module)
    except ModuleNotFoundError as error:
        if not provider.extra:
            raise
        text = f"needs the package {error.name}: pip install 'smart-router[{provider.extra}]'"
        raise ConfigError([f"broker.url: {scheme}:// {text}"]) from error
    arguments = (url, node, prefix) if provider.prefixed else (url, node)
    return cast(Bus, getattr(module, provider.make)(*arguments))
