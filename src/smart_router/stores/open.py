"""A store by its URL: `sqlite:///` (in the data folder), `sqlite:///PATH`, `postgresql://…`.

The provider is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, cast

from smart_router.errors import ConfigError
from smart_router.stores.base import Store

__all__ = ["PROVIDERS", "Provider", "open_store"]


class Provider(NamedTuple):
    """Where the class is; `extra`: what to install for it, "" when nothing is missing without."""

    module: str
    make: str
    """A callable of the module: (rest of the URL, data folder) → Store."""
    extra: str = ""


PROVIDERS: Final[dict[str, Provider]] = {
    "sqlite": Provider("smart_router.stores.sqlite", "from_url"),
    "postgresql": Provider("smart_router.stores.postgresql", "from_url", "postgresql"),
}


async def open_store(url: str, data: Path, providers: Mapping[str, Provider] = PROVIDERS) -> Store:
    """The open store. ConfigError: no such provider, or its package is missing; StorageError: it cannot be opened."""
    scheme, separator, rest = url.partition("://")
    provider = providers.get(scheme)
    if provider is None or not separator:
        offered = ", ".join(f"{name}:///" for name in providers)
        raise ConfigError([f"store: there is no store {scheme}://; there is: {offered}"])
    try:
        module = import_module(provider.module)
    except ModuleNotFoundError as error:
        if not provider.extra:
            raise
        raise ConfigError(
            [f"store: {scheme}:// needs the package {error.name}: pip install 'smart-router[{provider.extra}]'"]
        ) from error
    store = cast(Store, getattr(module, provider.make)(rest, data))
    await store.open()
    return store
