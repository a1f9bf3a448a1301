"""What the router itself tells an actor goes into the actor's own mailbox, on endpoints of any mailbox mode.

message ─► the sender's own mailbox ─► put ─► its sessions read it; on an endpoint that gives nobody one they join now
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from smart_router.brokers.base import Broker, Entry, PutDone
from smart_router.bus.base import Bus
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Endpoints
from smart_router.core.limits import NewMailboxes
from smart_router.core.sessions import Session
from smart_router.errors import Refused, RouterError
from smart_router.ids import Ids
from smart_router.message import Message

__all__ = ["ROUTER", "OwnMailboxes"]

ROUTER: Final = "router"
"""`from` of what the router says. No actor can be called so: an actor's id has a slash."""


_log = structlog.get_logger("smart_router.delivery")


class OwnMailboxes:
    """Receipts, and whatever else the router has to tell an actor that may be away."""

    def __init__(
        self, broker: Broker, endpoints: Endpoints, new_mailboxes: NewMailboxes, ids: Ids, delivery: Delivery, bus: Bus
    ) -> None:
        self._broker = broker
        self._endpoints = endpoints
        self._new_mailboxes = new_mailboxes
        self._ids = ids
        self._delivery = delivery
        self._bus = bus
        self._joining: set[str] = set()
        delivery.join_own = self.join
        bus.listen("own-mailbox", lambda _node, data: self.join(data.decode()))

    def entry(self, actor: str, type_: str, fields: bytes) -> Entry:
        """For `put`. `fields`: the message's own, as JSON without the opening brace. Raises Refused."""
        target = self._endpoints.own(actor)
        if target is None:
            raise Refused("unknown_address", f"There is no endpoint for the actor {actor!r}.", address=actor)
        endpoint = target.endpoint
        if not self._broker.exists(actor):
            self._new_mailboxes.join(actor, endpoint)
        id_ = self._ids.new()
        at = self._ids.at
        body = b'{"id":"%b","from":"router","at":%d,%b' % (id_.encode(), at, fields)
        expires_at = at + endpoint.ttl_ms if endpoint.ttl_ms else 0
        return Entry(Message(id_, ROUTER, at, type_, body, expires_at=expires_at), actor, target.policy)

    def put(self, entries: Sequence[Entry], done: PutDone) -> None:
        """As the broker's."""
        self._broker.put(entries, done)
        for actor in {entry.address for entry in entries}:
            self._be_read(actor)

    def _be_read(self, actor: str) -> None:
        """Where the mailbox mode gives no own mailbox, the actor's sessions do not read it yet."""
        target = self._endpoints.own(actor)
        if target is None or target.endpoint.own_mailbox:
            return
        if self._delivery.sessions.of_actor(actor):
            self.join(actor)
        else:
            self._bus.publish("own-mailbox", actor.encode())

    def join(self, actor: str) -> None:
        """The actor's sessions here read its own mailbox from now on, though their endpoint gives nobody one."""
        for session in self._delivery.sessions.of_actor(actor):
            if session.id not in self._joining and _may_join(session):
                self._joining.add(session.id)
                self._delivery.holdings.run(self._join(session), f"own mailbox of {actor}")

    async def _join(self, session: Session) -> None:
        holdings = self._delivery.holdings
        try:
            held = await holdings.own(session.actor, session.endpoint)
        except RouterError as error:  # what is in it waits for the actor's next session
            _log.warning("own_mailbox_not_read", actor=session.actor, code=error.code)
            return
        finally:
            self._joining.discard(session.id)
        if not _may_join(session):
            holdings.give_up([held])
            return
        held.join(session)
        session.held = [*session.held, held]
        held.refill()


def _may_join(session: Session) -> bool:
    reads_it = any(held.address == session.actor for held in session.held)
    return not (reads_it or session.closed or session.parked_until is not None)
