"""One consumer of one queue: turns what RabbitMQ delivers into entries of its subscription."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Protocol

from smart_router.brokers.base import End, Entry
from smart_router.brokers.rabbitmq_channels import GONE, HELD, Feed, Slot
from smart_router.brokers.rabbitmq_mailbox import Lane, slot_of
from smart_router.brokers.rabbitmq_marks import Marks
from smart_router.brokers.rabbitmq_wire import decode
from smart_router.message import Message

if TYPE_CHECKING:
    from smart_router.brokers.rabbitmq_subscription import RabbitSubscription

__all__ = ["Tap", "TapHost", "foreign"]


class TapHost(Protocol):
    marks: Marks
    order: itertools.count[int]

    def wall_ms(self) -> int: ...

    def end(self, entry: Entry, end: End, reason: str) -> None: ...

    def lane_found(self, tap: Tap, slot: Slot, priority: int) -> None:
        """A token came: the mailbox has a lane of this priority."""

    def turn_came(self, tap: Tap) -> None: ...

    def tap_lost(self, tap: Tap) -> None: ...


class Tap:
    """`active`: something came over it. `left`: cancelled by us; what still comes, `late`, goes back.

    `in_line`: somebody else was consuming when it began. Then its turn comes with that one's end, whose messages come
    back a moment later, and not in order: RabbitMQ returns by itself what a cancel meets on its way. `arrived` holds
    what comes in that moment, to be put in order.
    """

    __slots__ = (
        "_host",
        "active",
        "arrived",
        "begun",
        "feed",
        "first",
        "in_line",
        "lane",
        "late",
        "left",
        "sub",
        "tag",
        "token",
    )

    def __init__(self, sub: RabbitSubscription, lane: Lane, host: TapHost) -> None:
        self.sub = sub
        self.lane = lane
        self.feed: Feed | None = None
        self.tag = ""
        self.begun = asyncio.Event()
        self.left = False
        self.active = False
        self.in_line = False
        self.arrived: list[tuple[bool, Entry]] | None = None
        self.late: list[Slot] = []
        self.token: Slot | None = None
        self.first: asyncio.Event | None = None
        self._host = host

    def deliver(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        feed, sub, host = self.feed, self.sub, self._host
        assert feed is not None
        slot = feed.out[tag] = Slot(feed, tag, sub, next(host.order))
        arrival = decode(properties, body)
        box = sub.box
        if arrival is None:
            host.end(Entry(foreign(body, host.wall_ms()), box.address, box.policy, slot=slot), End.FAILED, "foreign")
            return
        if not self.active:
            self._begun(redelivered)
        meta = arrival.meta
        if meta.lane >= 0:
            host.lane_found(self, slot, meta.lane)
            return
        message = arrival.message
        entry = Entry(message, box.address, box.policy, redelivered or meta.repeated, 0, 0, slot)
        if entry.redelivered and self._is_known(entry, slot):
            return
        if self.left:
            host.marks.gone_back(entry, seen=False)
            self.late.append(slot)
        elif self.arrived is not None:
            self.arrived.append((redelivered, entry))
        elif message.expires_at and message.expires_at <= host.wall_ms():
            host.end(entry, End.EXPIRED, "ttl")
        else:
            sub.take(entry, self.lane.priority)

    def _begun(self, redelivered: bool) -> None:
        self.active = True
        if self.first is not None:
            self.first.set()
        if (self.in_line or redelivered) and not self.left:
            self.arrived = []
            self._host.turn_came(self)

    def _is_known(self, entry: Entry, slot: Slot) -> bool:
        """True: its reader still has it from before an outage, or has confirmed it."""
        marks = self._host.marks
        held = self.sub.lost.pop(entry.message.id, None)
        if held is not None and slot_of(held).state == HELD:
            slot.state = HELD
            held.slot = slot
            return True
        if marks.was_confirmed(entry):
            slot.state = GONE
            slot.feed.ack(slot)
            return True
        marks.restore(entry)
        return False

    def lost(self) -> None:
        if not self.left:
            self._host.tap_lost(self)


def foreign(body: bytes, at: int) -> Message:
    """What stands for something on our queues that is none of our messages."""
    return Message("foreign", "", at, "foreign", b"{}", (body[:65536],))
