"""(endpoint, type) → action."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from smart_router.core.actions import Context
from smart_router.errors import ConfigError, Refused

__all__ = ["Action", "Route", "Routes"]

Action = Callable[[Context], Awaitable[None] | None]
_WAITS: Final = frozenset({"GET_AWAITABLE", "GET_ANEXT", "BEFORE_ASYNC_WITH", "SEND", "YIELD_VALUE"})
_RESERVED: Final = frozenset({"iam", "refresh", "whoareyou", "hello", "error"})


class Route(NamedTuple):
    """`is_async`: a coroutine function. `waits`: it can suspend and needs a task; one without an `await` never does."""

    action: Action
    is_async: bool
    waits: bool


class Routes:
    """The table. `*` serves every endpoint that has no route of its own for the type."""

    def __init__(self) -> None:
        self._table: dict[tuple[str, str], Route] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._table

    def add(self, endpoint: str, type_: str, action: Action) -> None:
        if type_ in _RESERVED:
            raise ConfigError(
                [f"The type {type_!r} belongs to the router's own handshake; name the message otherwise."]
            )
        if (endpoint, type_) in self._table:
            raise ConfigError([f"The endpoint {endpoint!r} has a route for {type_!r} already; one action per type."])
        is_async = inspect.iscoroutinefunction(action)
        self._table[endpoint, type_] = Route(action, is_async, is_async and _can_suspend(action))

    def of(self, endpoint: str) -> dict[str, Route]:
        """The routes in force on an endpoint, by type: its own, and those of `*` where it has none."""
        return {
            type_: route for wanted in ("*", endpoint) for (name, type_), route in self._table.items() if name == wanted
        }

    def find(self, endpoint: str, type_: str) -> Route:
        """Raises Refused (`no_route`)."""
        route = self.of(endpoint).get(type_)
        if route is None:
            raise Refused(
                "no_route",
                f"There is no route for the type {type_[:128]!r} on endpoint {endpoint!r}.",
                type=type_[:128],
            )
        return route


def _can_suspend(action: Any) -> bool:
    """True unless the function's code holds no `await` at all; a wrapped or odd callable counts as one that can."""
    code = getattr(inspect.unwrap(action), "__code__", None)
    if code is None or inspect.unwrap(action) is not action:
        return True
    return any(instruction.opname in _WAITS for instruction in dis.get_instructions(code))
