"""Who may know whether an actor is there: the rule `presence` of the asker's endpoint."""

from __future__ import annotations

from collections.abc import Iterable

from smart_router.core.access import AccessRules, Identity, forbidden
from smart_router.core.endpoints import Endpoints
from smart_router.errors import Refused
from smart_router.message import is_address

__all__ = ["check_actors", "check_sight"]


def check_actors(endpoints: Endpoints, actors: Iterable[str]) -> None:
    """Raises Refused for what can be no actor here."""
    for actor in actors:
        if not is_address(actor):
            shown = actor[:128]
            raise Refused("bad_actor", f"{shown!r} is no actor's id: write endpoint/own or endpoint/sub/own.")
        if endpoints.own(actor) is None:
            raise Refused("unknown_address", f"There is no endpoint for the actor {actor!r}.", address=actor)


def check_sight(
    endpoints: Endpoints, rules: AccessRules | None, identity: Identity, asker: str, actors: Iterable[str]
) -> None:
    """Raises Refused unless `asker` may know of all of them."""
    check_actors(endpoints, actors)
    for actor in actors:
        if rules is not None and actor != asker and not rules.may_see(identity, asker, actor):
            raise forbidden(f"know whether {actor!r} is there", address=actor)
