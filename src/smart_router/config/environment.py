"""Settings from the environment and from flags, one rule each.

SMART_ROUTER_ + table + _ + key, in capitals: SMART_ROUTER_LOG_LEVEL is `level` in `[log]`. Left out are `server`
(SMART_ROUTER_PORT, SMART_ROUTER_TLS_KEY) and `url` (SMART_ROUTER_BROKER). Lists are separated by commas. Endpoints,
routes, gateways and tokens stand in the file only.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from smart_router.config.lines import Path
from smart_router.config.schema import Settings

__all__ = ["COMMAND_NAMES", "FLAGS", "PREFIX", "TEST_PREFIX", "names", "nested", "overlay"]

PREFIX: Final = "SMART_ROUTER_"

TEST_PREFIX: Final = "SMART_ROUTER_TEST_"
"""Read by the tests of this repository; a server that inherits such a variable passes it over."""

COMMAND_NAMES: Final = frozenset(
    {"SMART_ROUTER_CONFIG", "SMART_ROUTER_URL", "SMART_ROUTER_TOKEN", "SMART_ROUTER_ACTOR"}
)
"""Read by the commands themselves, not settings (docs/command-line.md)."""

FLAGS: Final[dict[str, Path]] = {
    "APP": ("app",),
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--drain": ("server", "drain"),
    "--data": ("data",),
    "--role": ("roles",),
    "--broker": ("broker", "url"),
    "--insecure": ("auth", "insecure"),
    "--log-format": ("log", "format"),
    "--log-level": ("log", "level"),
    "--access-log": ("log", "access"),
    "--demo": ("demo",),
}


def nested(kind: Any) -> tuple[str, type[msgspec.Struct]] | None:
    """("table" | "list" | "tables", the Struct) where a setting's type holds one; None for a plain value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "table", kind
    if origin is typing.Annotated or origin in {types.UnionType, typing.Union}:
        return next(
            (found for found in map(nested, arguments[: 1 if origin is typing.Annotated else None]) if found), None
        )
    if origin in {list, dict}:
        inner = nested(arguments[-1])
        return (("list" if origin is list else "tables"), inner[1]) if inner else None
    return None


def names() -> dict[str, Path]:
    """Every environment name with the path of its setting."""
    found: dict[str, Path] = {}
    _collect(Settings, (), (), found)
    return found


def _collect(struct: type[msgspec.Struct], path: Path, parts: tuple[str, ...], found: dict[str, Path]) -> None:
    for field in msgspec.structs.fields(struct):
        inner = nested(field.type)
        silent = field.name in {"server", "url"}
        longer = parts if silent else (*parts, field.name.upper())
        if inner is None:
            found[PREFIX + "_".join(longer)] = (*path, field.name)
        elif inner[0] == "table":
            _collect(inner[1], (*path, field.name), longer, found)


def overlay(data: dict[str, Any], values: Mapping[Path, object]) -> None:
    """Puts each value at its path, over what the file says."""
    for path, value in values.items():
        table: Any = data
        for key in path[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[path[-1]] = value
