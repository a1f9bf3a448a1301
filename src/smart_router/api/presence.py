"""/presence: whether actors are there. An actor's id has slashes: one is `?id=`, many stand in a body."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler

from smart_router.api.caller import MONITOR, Callers
from smart_router.api.queries import Address, body_of, query_of
from smart_router.core.access import ADMIN, Identity, as_actor, forbidden
from smart_router.core.presence import MAX_ASKED, Presence
from smart_router.core.services import Core
from smart_router.core.sight import check_actors, check_sight
from smart_router.errors import Refused

__all__ = ["presence_routes"]


class PresenceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`actor`: who asks."""

    id: Address
    actor: Address | None = None


class PresenceQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`actors`: of whom, 1,000 at most. `actor`: who asks; a token with the scope `monitor` or `admin` needs none."""

    actors: Annotated[list[Address], msgspec.Meta(min_length=1, max_length=MAX_ASKED)]
    actor: Address | None = None


class PresenceView(msgspec.Struct, frozen=True):
    """`presence`: `online`, `idle`, `away`, `unreachable` or `offline`. `last_seen`: when the last session ended, ms
    since 1970 UTC; null: it has one, or that is not remembered (any more)."""

    actor: str
    presence: str
    last_seen: int | None


class PresencePage(msgspec.Struct, frozen=True):
    """In the order asked, each actor once."""

    presence: list[PresenceView]


def presence_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    presences = core.watching.presences

    async def seen(identity: Identity, asker: str | None, actors: list[str]) -> list[PresenceView]:
        _check(core, identity, asker, actors)
        return [_view(one) for one in await presences.of_many(list(dict.fromkeys(actors)))]

    @get("/presence", security=[{"token": []}], opt={"query": PresenceQuery})
    async def one(request: Request[Any, Any, Any]) -> PresenceView:
        """Whether an actor is there.

        Where authentication is on, the token needs the scope `monitor` or `admin`; or it may be the actor `actor`,
        whose endpoint's rule `presence` then decides.
        """
        identity = callers.anybody(request)
        query = query_of(request, PresenceQuery)
        return (await seen(identity, query.actor, [query.id]))[0]

    @post("/presence", status_code=200, security=[{"token": []}], opt={"body": PresenceQuestion})
    async def many(request: Request[Any, Any, Any]) -> PresencePage:
        """Whether they are there; who may ask: as for one. All or none."""
        identity = callers.anybody(request)
        question = await body_of(request, PresenceQuestion)
        return PresencePage(await seen(identity, question.actor, list(question.actors)))

    return [one, many]


def _check(core: Core, identity: Identity, asker: str | None, actors: list[str]) -> None:
    """Raises Refused."""
    if asker is None:
        if core.authorizer.required and identity.scopes.isdisjoint((MONITOR, ADMIN)):
            raise Refused("forbidden", f"Say as which `actor` you ask, or have the scope `{MONITOR}` or `{ADMIN}`.")
        check_actors(core.endpoints, actors)
        return
    check_actors(core.endpoints, [asker])
    target = core.endpoints.own(asker)
    rules = core.rules.get(target.endpoint.name) if target is not None else None
    if rules is not None and not rules.may_connect(identity, asker):
        raise forbidden(f"be the actor {asker!r}")
    check_sight(core.endpoints, rules, as_actor(identity, asker), asker, actors)


def _view(one: Presence) -> PresenceView:
    return PresenceView(one.actor, one.presence, one.last_seen)
