"""What single values cannot show: names that must exist, texts that must compile, settings that must fit each other.

One function per table, each given the built Struct; the port's are in rules_server.py.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from smart_router.config.conditions import ACCESS_VARIABLES, ROUTE_VARIABLES, compile_condition
from smart_router.config.problems import Problems, instead
from smart_router.config.schema import EndpointSettings, RouteSettings, Settings
from smart_router.errors import ConfigError
from smart_router.message import ACTOR_ID

__all__ = ["RESERVED_TYPES", "check_endpoint", "check_routes", "is_module_attribute"]

RESERVED_TYPES: Final = frozenset(
    ["whoareyou", "iam", "hello", "error", "refresh", "connect", "connect_error", "disconnect", "disconnecting",
     "newListener", "removeListener"]
)  # fmt: skip
"""Events of the handshake and of Socket.IO itself: no message type."""


def is_module_attribute(text: str) -> bool:
    """True for the form `package.module:attribute`."""
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def _compiles(struct: msgspec.Struct, key: str, variables: tuple[str, ...], problems: Problems) -> None:
    text = getattr(struct, key)
    if text is None:
        return
    try:
        compile_condition(text, variables)
    except ConfigError as error:
        for problem in error.problems:
            problems.of(struct, key, problem)


def check_endpoint(endpoint: EndpointSettings, problems: Problems) -> None:
    """The endpoint by itself."""
    _check_names(endpoint, problems)
    if endpoint.window_bytes < endpoint.max_message_size:
        problems.of(
            endpoint,
            "window_bytes",
            f"smaller than max_message_size ({endpoint.max_message_size}): give it at least that",
        )
    if 0 < endpoint.max_bytes < endpoint.max_message_size:
        problems.of(
            endpoint, "max_bytes", f"smaller than max_message_size ({endpoint.max_message_size}): give it at least that"
        )
    if endpoint.retry.max_delay < endpoint.retry.first_delay:
        problems.of(endpoint.retry, "max_delay", f"smaller than first_delay ({endpoint.retry.first_delay:g})")
    for key, variables in ACCESS_VARIABLES.items():
        _compiles(endpoint.access, key, variables, problems)


def _check_names(endpoint: EndpointSettings, problems: Problems) -> None:
    rule = "1 to 128 of A-Z a-z 0-9 . _ ~ @ : + -"
    if not ACTOR_ID.match(endpoint.name):
        problems.itself(endpoint, f"cannot name an endpoint: {rule}")
    seen: set[str] = set()
    for sub in endpoint.sub_endpoints or []:
        if not ACTOR_ID.match(sub):
            problems.of(endpoint, "sub_endpoints", f"`{sub[:64]}` cannot be a sub-endpoint's id: {rule}")
        elif sub in seen:
            problems.of(endpoint, "sub_endpoints", f"`{sub}` stands there twice")
        seen.add(sub)


def check_routes(settings: Settings, endpoints: set[str] | None, problems: Problems) -> None:
    """Every route against the endpoints there are, None: not known; `*` is any."""
    known = {*endpoints, "*"} if endpoints is not None else None
    always: dict[tuple[str, str], RouteSettings] = {}
    for route in settings.routes:
        if known is not None and route.endpoint not in known:
            problems.of(route, "endpoint", f"no endpoint `{route.endpoint[:64]}`: {instead(route.endpoint, known)}")
        _check_route(route, problems)
        earlier = always.get((route.endpoint, route.type))
        if earlier is not None:
            line = problems.line((*problems.places.get(id(earlier), ()), "type"))
            problems.of(route, "type", f"never reached: the route of line {line} for the same has no `when`")
        if route.when is None:
            always.setdefault((route.endpoint, route.type), route)


def _is_truth(text: str) -> bool:
    """Paths with operators can be read as a choice of addresses; they are none."""
    return "?" not in text and re.fullmatch(r"[\w.()\s]*(?:&&|\|\||!)[\w.()\s&|!]*", text) is not None


def _check_route(route: RouteSettings, problems: Problems) -> None:
    if route.type in RESERVED_TYPES:
        problems.of(route, "type", f"`{route.type}` is the protocol's own event: name the message otherwise")
    _compiles(route, "when", ROUTE_VARIABLES, problems)
    for publish in route.publish:
        if _is_truth(publish.to):
            problems.of(
                publish, "to", f"`{publish.to}` is true or false, no address: write `condition ? ids.a : ids.b`"
            )
        _compiles(publish, "to", ROUTE_VARIABLES, problems)
        if publish.type in RESERVED_TYPES:
            problems.of(publish, "type", f"`{publish.type}` is the protocol's own event: name the message otherwise")
