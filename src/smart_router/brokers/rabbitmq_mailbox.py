"""What this node knows of one mailbox in RabbitMQ: its lanes, its readers here, and about how much waits.

    Box "agent/456/alice" ── Lane 4: its own queue        COLD ─► PROBING ─► OPEN        a returned message: made anew
                          └─ Lane 8: made on first use

Only what passes this node is counted; RabbitMQ is asked when a limit is near (rabbitmq_limits.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from smart_router.brokers.base import Entry, MailboxPolicy, PutDone
from smart_router.brokers.rabbitmq_names import NORMAL, Names, short_form

if TYPE_CHECKING:
    from smart_router.brokers.rabbitmq_channels import Slot
    from smart_router.brokers.rabbitmq_subscription import RabbitSubscription

__all__ = ["COLD", "Box", "Host", "Lane", "Out", "slot_of"]

COLD: Final = -1


class Out:
    """One message on its way to RabbitMQ. `returned`: there was no queue for it."""

    __slots__ = ("body", "confirmed", "done", "entry", "lane", "properties", "returned", "seq")

    def __init__(self, entry: Entry | None, lane: Lane, done: PutDone | None, properties: bytes, body: bytes) -> None:
        self.entry = entry
        self.lane = lane
        self.done = done
        self.properties = properties
        self.body = body
        self.seq = 0
        self.returned = False
        self.confirmed = False

    def again(self) -> Out:
        """To be published once more; this one keeps its place among those sent, answered."""
        return Out(self.entry, self.lane, self.done, self.properties, self.body)


class Lane:
    """The queue of one priority, as its publisher sees it.

    `epoch`: that of the publisher's channel on which a message was last seen to arrive; another: the next one is sent
    alone, to see whether there is a queue, and later ones are `held` until its confirm. `pending`: what has no answer
    yet; `quiet` is told when that is nothing.
    """

    __slots__ = (
        "box",
        "epoch",
        "exchange",
        "held",
        "key",
        "pending",
        "priority",
        "queue",
        "quiet",
        "returned",
        "unconfirmed",
    )

    def __init__(self, box: Box, priority: int, names: Names) -> None:
        self.box = box
        self.priority = priority
        self.exchange = names.exchange(box.address).encode()
        self.key = names.routing_key(box.address, priority).encode()
        self.queue = names.queue(box.address, priority)
        self.epoch = COLD
        self.held: list[Out] | None = None
        self.returned: list[Out] = []
        self.unconfirmed = 0
        self.pending = 0
        self.quiet: asyncio.Future[None] | None = None


class Host(Protocol):
    """What a mailbox needs of its broker."""

    names: Names

    def idle(self, box: Box) -> None:
        """Nobody has used it for its time."""

    def watch(self, box: Box) -> None: ...

    def now(self) -> float: ...


class Box:
    """`count`, `bytes`: what waits, as far as seen from here. `used`: when somebody last put or read. `kept`: readers
    that closed and keep something. `long_address`: the address if the routing key does not say it."""

    __slots__ = (
        "_host",
        "address",
        "bytes",
        "checking",
        "count",
        "deadline",
        "deleted",
        "kept",
        "lanes",
        "leaving",
        "long_address",
        "policy",
        "queued",
        "subs",
        "used",
    )

    def __init__(self, address: str, policy: MailboxPolicy, host: Host) -> None:
        self.address = address
        self.policy = policy
        self._host = host
        self.long_address = "" if short_form(address) == address else address
        self.kept: tuple[RabbitSubscription, ...] = ()
        self.lanes: dict[int, Lane] = {}
        self.lane(NORMAL)
        self.subs: tuple[RabbitSubscription, ...] = ()
        self.leaving: set[asyncio.Future[None]] = set()
        self.count = 0
        self.bytes = 0
        self.checking: list[tuple[Entry, PutDone | None]] | None = None
        self.deleted = False
        self.used = host.now()
        self.queued: float | None = None
        self.deadline: float | None = None

    def lane(self, priority: int) -> Lane:
        lane = self.lanes.get(priority)
        if lane is None:
            lane = self.lanes[priority] = Lane(self, priority, self._host.names)
        return lane

    @property
    def local(self) -> int:
        """What waits here, in this node's memory."""
        return sum(sub.waiting for sub in self.subs)

    @property
    def in_flight(self) -> int:
        return sum(len(sub.held) for sub in (*self.subs, *self.kept))

    @property
    def pending(self) -> bool:
        """Something is on its way to RabbitMQ."""
        return any(lane.pending for lane in self.lanes.values())

    def left(self, size: int) -> None:
        """One waits no longer."""
        self.count = max(0, self.count - 1)
        self.bytes = max(0, self.bytes - size) if self.count else 0

    def came(self, size: int) -> None:
        self.count += 1
        self.bytes += size

    def counted(self, messages: int) -> None:
        """RabbitMQ was asked: so many wait there; bytes in proportion."""
        count = messages + self.local
        self.bytes = self.bytes * count // self.count if self.count else 0
        self.count = count

    # Time

    def settle(self) -> None:
        """Begins the time after which a mailbox that nobody uses goes."""
        idle = self.policy.idle_expiry
        self.deadline = self.used + idle if idle > 0 and not self.subs and not self.deleted else None
        self._host.watch(self)

    def touch(self) -> None:
        """Somebody used it just now."""
        self.used = self._host.now()
        if self.deadline is None and not self.subs:
            self.settle()

    def handle_timer(self, now: float) -> None:
        if self.deadline is not None and now - self.used >= self.policy.idle_expiry:
            self.deadline = None
            self._host.idle(self)
        else:
            self.settle()


def slot_of(entry: Entry) -> Slot:
    from smart_router.brokers.rabbitmq_channels import Slot

    assert isinstance(entry.slot, Slot)
    return entry.slot
