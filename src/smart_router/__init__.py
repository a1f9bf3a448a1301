"""Smart Router: routes messages between actors that come and go. What stands in `__all__` is the promised interface.

The server's parts are imported when they are first asked for: `smart_router.client` needs none of their packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from smart_router.errors import ConfigError, ProtocolError, Refused, RouterError, StorageError

if TYPE_CHECKING:
    from smart_router.app import EndpointRoutes, Node, SmartRouter
    from smart_router.config.load import load_settings
    from smart_router.core.actions import Context

__all__ = [
    "ConfigError",
    "Context",
    "EndpointRoutes",
    "Node",
    "ProtocolError",
    "Refused",
    "RouterError",
    "SmartRouter",
    "StorageError",
    "load_settings",
]

_SERVER: Final = {
    "Context": "smart_router.core.actions",
    "EndpointRoutes": "smart_router.app",
    "Node": "smart_router.app",
    "SmartRouter": "smart_router.app",
    "load_settings": "smart_router.config.load",
}

if not TYPE_CHECKING:  # or every misspelt name would have a type

    def __getattr__(name: str) -> object:
        if name not in _SERVER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_SERVER[name]), name)
