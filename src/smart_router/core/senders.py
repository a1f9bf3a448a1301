"""Actors that send without a connection, over HTTP: each has a session here that gets nothing.

It is no session of the actor for others: no mailbox is read, nobody is told of it. It carries what routing needs of a
sender (place, rate, permissions), and is kept while its actor sends, so that the rate counts from message to message.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from smart_router.core.access import Identity, as_actor, forbidden
from smart_router.core.endpoints import Endpoints, Place
from smart_router.core.limits import Rate
from smart_router.core.services import Core
from smart_router.core.sessions import AWAY, Session
from smart_router.errors import Refused
from smart_router.message import ACTOR_ID

__all__ = ["Senders", "place_of"]

_KEPT: Final = 10_000  # senders; over it the one that sent longest ago is forgotten, and its rate with it


def place_of(endpoints: Endpoints, actor: str) -> Place:
    """Where this actor connects. Raises Refused: not the id of an actor, or of no endpoint here."""
    where, _, own = actor.rpartition("/")
    if not where or not ACTOR_ID.match(own):
        raise Refused(
            "bad_actor",
            "An actor's id is ENDPOINT/NAME or ENDPOINT/SUB/NAME; NAME: 1 to 128 letters, digits and . _ ~ @ : + -",
        )
    place = endpoints.place("/" + where)
    if place is None:
        raise Refused("unknown_address", f"There is no endpoint for the actor {actor[:400]!r}.")
    return place


class Senders:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, actor: str, identity: Identity) -> Session:
        """To route what `actor` sends. Raises Refused: no such endpoint, or the token may not be this actor."""
        place = place_of(self._core.endpoints, actor)
        rules = self._core.rules.get(place.endpoint.name)
        if rules is not None and not rules.may_connect(identity, actor):
            raise forbidden(f"be the actor {actor!r}")
        session = self._sessions.get(actor) or self._make(actor, place, identity)
        self._sessions.move_to_end(actor)
        if session.identity.token_hash != identity.token_hash or session.publisher is None:
            session.identity = as_actor(identity, actor)
            session.publisher = rules.publisher(session.identity, actor) if rules is not None else None
        return session

    def _make(self, actor: str, place: Place, identity: Identity) -> Session:
        if len(self._sessions) >= _KEPT:
            self._sessions.popitem(last=False)
        clock = self._core.clock
        session = self._sessions[actor] = Session(
            f"http:{actor}", actor, place, AWAY, as_actor(identity, actor), clock.wall_ms()
        )
        settings = place.endpoint.settings
        if settings.messages_per_second or settings.bytes_per_second:
            session.rate = Rate(settings.messages_per_second, settings.bytes_per_second, clock)
        return session
