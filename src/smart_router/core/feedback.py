"""What senders are told of their messages, put together: receipts, replies, and what recipients say of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from smart_router.brokers.base import Broker, End, Entry
from smart_router.clock import Deadlines
from smart_router.core.delivered import Delivered
from smart_router.core.delivery import Delivery
from smart_router.core.installation import Installation
from smart_router.core.limits import NewMailboxes
from smart_router.core.marks import Marks
from smart_router.core.own_mailboxes import OwnMailboxes
from smart_router.core.receipts import Receipts
from smart_router.core.replies import Replies
from smart_router.core.router import Router
from smart_router.message import ANSWER

__all__ = ["Feedback", "make_feedback"]


class Feedback(NamedTuple):
    own: OwnMailboxes
    receipts: Receipts
    replies: Replies
    marks: Marks

    def ended(self, entry: Entry, state: End, reason: str) -> None:
        """A message whose sender wants to be told has ended other than delivered."""
        self.receipts.ended(entry.message, entry.address, state, reason)
        if entry.message.wants & ANSWER:
            self.replies.ended(entry.message, state, reason)

    def parts(self) -> list[tuple[str, Any]]:
        """Names and statistics."""
        return [
            ("receipts", self.receipts.statistics()),
            ("replies", self.replies.statistics()),
            ("marks", self.marks.statistics()),
        ]


def make_feedback(
    router: Router,
    delivery: Delivery,
    installation: Installation,
    broker: Broker,
    new_mailboxes: NewMailboxes,
    deadlines: Deadlines,
) -> Feedback:
    """Router and delivery use it from now on."""
    bus, asking, clock = installation.bus, installation.asking, deadlines.clock

    def others() -> int:
        return installation.moving.nodes

    own = OwnMailboxes(broker, router.endpoints, new_mailboxes, router.ids, delivery, bus)
    delivered = Delivered(clock)
    receipts = Receipts(broker, own, delivered, clock)
    replies = Replies(bus, asking, deadlines)
    marks = Marks(delivery, delivered, receipts, replies, asking)
    marks.others = replies.others = others
    delivery.receipts = router.receipts = receipts
    delivery.holdings.owes = receipts.owes
    router.replies = replies
    return Feedback(own, receipts, replies, marks)
