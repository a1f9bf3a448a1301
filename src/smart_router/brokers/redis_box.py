"""What one node knows of one mailbox in Redis: its subscriptions here, and what goes into the next call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from smart_router.brokers.base import Consumer, Entry, MailboxPolicy, PutDone

if TYPE_CHECKING:
    from smart_router.brokers.redis_partition import Partition

__all__ = ["ENDED", "GONE", "HELD", "PUT", "RELEASED", "Box", "RedisSubscription", "Section", "Slot"]

PUT: Final = 0  # on its way, or waiting in Redis
HELD: Final = 1
ENDED: Final = 2
RELEASED: Final = 3
GONE: Final = 4


class Slot:
    """`number`: the message's in its mailbox. `life`: the partition's when it was handed out; of another life, it is
    somebody else's now."""

    __slots__ = ("box", "life", "number", "state", "subscription")

    def __init__(self, box: Box, life: int, number: int, state: int) -> None:
        self.box = box
        self.life = life
        self.number = number
        self.state = state
        self.subscription: RedisSubscription | None = None


class Section:
    """Of one mailbox, for one call: what was done here since the last one."""

    __slots__ = ("acks", "answer", "asks", "bytes", "entries", "line", "operation", "puts", "released", "withdrawn")

    def __init__(self) -> None:
        self.acks: list[int] = []
        self.withdrawn: list[int] = []
        self.released: list[tuple[Entry, float]] = []
        self.line: list[str] = []
        self.puts: list[object] = []  # lane, row, number of its dedup key; and so on
        self.entries: list[tuple[Entry, PutDone | None]] = []
        self.bytes = 0
        self.asks = False
        self.operation: str | int = 0
        self.answer: asyncio.Future[list[Entry]] | None = None

    def take_back(self, entry: Entry) -> bool:
        """It was confirmed after all: False if its release is under way already."""
        for place, (released, _) in enumerate(self.released):
            if released is entry:
                del self.released[place]
                return True
        return False


class RedisSubscription:
    """See base.Subscription. `held`: what it was given and has not confirmed, by number."""

    __slots__ = ("box", "closed", "consumer", "credit", "held", "number", "standing")

    def __init__(self, box: Box, consumer: Consumer, number: int) -> None:
        self.box = box
        self.consumer = consumer
        self.number = number
        self.credit = 0
        self.closed = False
        self.held: dict[int, Entry] = {}
        self.standing: asyncio.Future[None] | None = None

    def grant(self, credit: int) -> None:
        if self.closed:
            return
        self.credit = max(0, self.credit + credit)
        box = self.box
        if self.credit and (box.waiting or not box.hungry):
            box.partition.want(box)

    def close(self, *, keep: bool = False) -> None:
        if not self.closed:
            self.closed = True
            self.credit = 0
            self.box.partition.leave(self, keep=keep)


class Box:
    """`waiting`: as Redis said last. `hungry`: Redis knows that this node waits for more. `holder`: of an exclusive
    mailbox, the subscription whose turn it is, if it is one of these. `exists`: Redis has it."""

    __slots__ = (
        "address",
        "exists",
        "holder",
        "hungry",
        "kept",
        "partition",
        "policy",
        "section",
        "subscriptions",
        "waiting",
        "words",
    )

    def __init__(self, address: str, partition: Partition) -> None:
        self.address = address
        self.partition = partition
        self.policy: MailboxPolicy | None = None
        self.words: tuple[int, ...] = ()
        self.section: Section | None = None
        self.subscriptions: tuple[RedisSubscription, ...] = ()
        self.kept: tuple[RedisSubscription, ...] = ()
        self.holder: RedisSubscription | None = None
        self.waiting = 0
        self.hungry = False
        self.exists = False

    @property
    def exclusive(self) -> bool:
        return self.policy is not None and self.policy.exclusive

    def note_turn(self, ticket: str) -> None:
        """Of an exclusive mailbox: who stands first in line; "" when that is not known."""
        mine = self.partition.ticket
        self.holder = next((each for each in self.subscriptions if mine(each) == ticket), None) if ticket else None

    def next_reader(self) -> RedisSubscription | None:
        """Whose turn it is to be given a message; None: nobody here has room."""
        if self.policy is not None and self.policy.exclusive:
            holder = self.holder
            return holder if holder is not None and holder.credit > 0 else None
        subscriptions = self.subscriptions
        if len(subscriptions) == 1:
            return subscriptions[0] if subscriptions[0].credit > 0 else None
        for reader in subscriptions:
            if reader.credit > 0:
                self.subscriptions = (*(each for each in subscriptions if each is not reader), reader)
                return reader
        return None

    def credit(self) -> int:
        """How many of its messages this node has room for."""
        if self.policy is not None and self.policy.exclusive:
            return self.holder.credit if self.holder is not None else 0
        subscriptions = self.subscriptions
        return subscriptions[0].credit if len(subscriptions) == 1 else sum(each.credit for each in subscriptions)

    @property
    def held(self) -> int:
        return sum(len(each.held) for each in (*self.subscriptions, *self.kept))
