"""Routes that stand in the configuration file: conditions, and addresses taken from the message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from smart_router.config.conditions import ROUTE_VARIABLES, Condition, compile_condition
from smart_router.config.schema import PublishSettings, RouteSettings
from smart_router.core.actions import Context
from smart_router.core.routes import Action, Routes
from smart_router.errors import Refused

__all__ = ["add_configured_routes"]

_ID: Final = re.compile(r"\s*ids\.([A-Za-z_][A-Za-z0-9_]*)\s*\Z")


def add_configured_routes(routes: Routes, settings: list[RouteSettings]) -> None:
    """Adds them to the table; those of one (endpoint, type) become one action, tried in the file's order."""
    grouped: dict[tuple[str, str], list[RouteSettings]] = {}
    for each in settings:
        grouped.setdefault((each.endpoint, each.type), []).append(each)
    for (endpoint, type_), several in grouped.items():
        routes.add(endpoint, type_, _direct(several) or _ConfiguredAction(several))


def _direct(settings: list[RouteSettings]) -> Action | None:
    """The action of the commonest routes, one publication to `ids.NAME` without a condition: nothing to evaluate."""
    if len(settings) > 1 or settings[0].when is not None or len(settings[0].publish) > 1:
        return None
    to, type_ = settings[0].publish[0].to, settings[0].publish[0].type
    found = _ID.match(to)
    if found is None:
        return None
    name = found[1]

    def publish(context: Context) -> None:
        address = context.envelope.ids.get(name)
        if address is None:
            raise _missing(to)
        context.publish(address, type_)

    return publish


class _Variables(Mapping[str, Any]):
    """The message as conditions see it; metadata is decoded only if one asks for it."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getitem__(self, name: str) -> Any:
        context = self._context
        if name == "ids":
            return context.message.ids
        if name == "metadata":
            return context.message.metadata
        if name == "type":
            return context.message.type
        if name == "from":
            return context.message.sender
        if name == "endpoint":
            return context.session.place.address
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(ROUTE_VARIABLES)

    def __len__(self) -> int:
        return len(ROUTE_VARIABLES)


class _Branch:
    __slots__ = ("publish", "when")

    def __init__(self, settings: RouteSettings) -> None:
        self.when = compile_condition(settings.when, ROUTE_VARIABLES) if settings.when is not None else None
        self.publish: list[tuple[Condition, str | None]] = [_compiled(each) for each in settings.publish]


def _compiled(settings: PublishSettings) -> tuple[Condition, str | None]:
    return compile_condition(settings.to, ROUTE_VARIABLES), settings.type


class _ConfiguredAction:
    """An action: the first branch whose condition holds publishes all that it lists."""

    __slots__ = ("_branches",)

    def __init__(self, settings: list[RouteSettings]) -> None:
        self._branches: Final = [_Branch(each) for each in settings]

    def __call__(self, context: Context) -> None:
        variables = _Variables(context)
        for branch in self._branches:
            if branch.when is None or branch.when.holds(variables):
                for to, type_ in branch.publish:
                    context.publish(self._address(to, variables), type_)
                return
        message = context.message
        raise Refused(
            "no_route", f"No route for {message.type[:128]!r} has a condition that holds.", type=message.type[:128]
        )

    @staticmethod
    def _address(to: Condition, variables: _Variables) -> Any:
        address = to.evaluate(variables)
        if address is None:
            raise Refused(
                "bad_address", f"The message has no `{to.text}`, which its route publishes to.", address=to.text
            )
        return address


def _missing(path: str) -> Refused:
    return Refused("bad_address", f"The message has no `{path}`, which its route publishes to.", address=path)
