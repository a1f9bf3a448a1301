"""The user's application, as the commands need it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from smart_router.config.attribute import load_attribute
from smart_router.errors import ConfigError

if TYPE_CHECKING:
    from smart_router.app import SmartRouter

__all__ = ["app_endpoints", "load_application"]


def load_application(name: str) -> SmartRouter:
    """ConfigError when it cannot be had, or is something else."""
    # The server's packages take a moment to import: only where an application is named.
    from smart_router.app import SmartRouter

    app = load_attribute(name)
    if not isinstance(app, SmartRouter):
        raise ConfigError([f"`{name}` is of type {type(app).__name__}: name a SmartRouter"])
    return app


def app_endpoints(name: str) -> Iterable[str]:
    """The names of the endpoints that it declares."""
    return load_application(name).endpoints
