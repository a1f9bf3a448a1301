"""What the router itself tells an actor goes into the actor's own mailbox, on endpoints of any mailbox mode.

message ─► the sender's own mailbox ─► put ─► its sessions read it; on an endpoint that gives nobody one they join now
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smart_router.brokers.base import Broker, Entry, PutDone
from smart_router.bus.base import Bus
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Endpoints
from smart_router.core.limits import NewMailboxes
from smart_router.errors import Refused
from smart_router.ids import Ids
from smart_router.message import Message

__all__ = ["ROUTER", "OwnMailboxes"]

ROUTER: Final = "router"
"""`from` of what the router says. No actor can be called so: an actor's id has a slash."""


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
        bus.listen("own-mailbox", lambda _node, data: delivery.join_own(data.decode()))

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
            self._delivery.join_own(actor)
        else:
            self._bus.publish("own-mailbox", actor.encode())
