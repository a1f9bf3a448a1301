"""The Broker role: mailboxes that outlive their readers.

    core ── put([Entry…]) ──► broker ──► mailbox ──► Consumer.deliver(Entry)      while the subscription has credit
      ▲                          │                        │
      └── done(PutResult) ◄──────┘   safe in all          └── ack / release / (ended by the broker: on_end)

An `Entry` is one message in one mailbox. What the broker promises to keep stays until `ack`; a crash gives it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from smart_router.errors import RouterError
from smart_router.message import Message

__all__ = [
    "Broker",
    "BrokerStatistics",
    "Capability",
    "Consumer",
    "End",
    "Entry",
    "MailboxPolicy",
    "MailboxStatistics",
    "OnEnd",
    "OnRemoved",
    "Overflow",
    "PutDone",
    "PutResult",
    "Subscription",
]


class Capability(StrEnum):
    """What a provider may claim; the contract suite holds it to each claim and skips the rest by name."""

    DURABLE = "durable"  # survives kill -9 of the router
    PRIORITY = "priority"
    SUPERSEDE = "supersede"
    PEEK_HELD = "peek_held"  # peek while somebody is subscribed
    REQUEUE_ONE = "requeue_one"
    EXACT_DEPTH = "exact_depth"
    EXPIRY_OUT_OF_TURN = "expiry_out_of_turn"
    DROP_ONLY_WAITING = "drop_only_waiting"  # what comes back is never dropped for its return
    DEDUP_INSTALLATION = "dedup_installation"
    MANY_NODES = "many_nodes"  # any number of nodes at once on one URL


class Overflow(StrEnum):
    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    REFUSE = "refuse"


class End(StrEnum):
    """How a message ends other than delivered (DESIGN: no silent drop)."""

    EXPIRED = "expired"
    DROPPED = "dropped"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
    FAILED = "failed"


class MailboxPolicy(msgspec.Struct, frozen=True):
    """Of one endpoint's mailboxes, shared by all of them. 0 means: no limit."""

    durable: bool = True
    max_messages: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    overflow: Overflow = Overflow.DROP_OLDEST
    idle_expiry: float = 900.0
    """Seconds; an empty mailbox without a subscription goes after this time, a memory one with messages too."""
    exclusive: bool = False
    """One subscription at a time has its turn, in the order of their coming, on whichever node; the others wait."""


class Entry(msgspec.Struct, eq=False):
    """One message in one mailbox; the handle for `ack` and `release`. Two are equal only if they are the same.

    `redelivered`: it may have been delivered before. `attempts`: writes that timed out or were refused,
    `deliveries`: writes. The last two are core's and come back with the entry as far as the provider can keep them (at
    least while it runs). `slot` belongs to the provider.
    """

    message: Message
    address: str
    policy: MailboxPolicy
    redelivered: bool = False
    attempts: int = 0
    deliveries: int = 0
    slot: object = None


class PutResult(NamedTuple):
    """`refused`: per address that did not take it, why. Empty: safe in every mailbox.

    `answer`: a repeat got the first's answer.
    """

    refused: dict[str, RouterError]
    answer: bytes | None = None


PutDone = Callable[[PutResult], None]
OnEnd = Callable[[Entry, End, str], None]
"""A broker ended a waiting message by itself: (entry, end, reason: `ttl`, `overflow`, `superseded`, `purged`, `idle`).
The receiver remembers it (dead letter), then calls `ack([entry])`: only then the provider forgets it for good."""


OnRemoved = Callable[[str], None]
"""A mailbox is gone (idle expiry, delete): its address."""


class Consumer(Protocol):
    """Core's side of a subscription. Called from the event loop; may call the subscription back at once."""

    def deliver(self, entry: Entry) -> None: ...


class Subscription(Protocol):
    """The right to take from one mailbox. Begins with credit 0."""

    def grant(self, credit: int) -> None:
        """Allows that many more deliveries, maybe from inside; a negative number takes back what has not been used."""

    def close(self, *, keep: bool = False) -> None:
        """Takes no more; of an exclusive mailbox, the next subscription has its turn.

        What was delivered and not acknowledged goes back to the front, in its first order, before the next one gets
        anything. `keep`: it stays out, until it is acknowledged or released.
        """


class MailboxStatistics(NamedTuple):
    address: str
    waiting: int
    in_flight: int
    bytes: int
    subscriptions: int
    durable: bool


class BrokerStatistics(NamedTuple):
    mailboxes: int
    loaded: int  # mailboxes with anything in memory
    waiting: int
    in_flight: int
    bytes_in_memory: int
    puts: int
    elided: int  # rows that were never written, because they were confirmed first
    written: int
    commits: int
    refused: int
    ended: int
    healthy: bool
    reason: str  # why it is not healthy, or ""


class Broker(Protocol):
    """Mailboxes by address. Addresses have the form of `message.is_address`; nothing else reaches a provider.

    Order: entries of one `put` and of later ones reach a mailbox in that order, and are delivered so within a
    priority.
    Limits (`MailboxPolicy`) count what waits, not what is in flight or what a live subscription has credit for; what is
    released is never dropped for its return. `on_end` and `on_removed` are attributes, set before `open`.
    """

    capabilities: frozenset[Capability]
    on_end: OnEnd
    on_removed: OnRemoved

    async def open(self) -> None:
        """Ready to use, or raises StorageError / StorageLocked / BrokerAway with what to do."""

    async def close(self) -> None:
        """Everything accepted is safe when this returns."""

    def recall(self, sender: str, key: str) -> bytes | Awaitable[bytes] | None:
        """The answer that the first message with this dedup key got; None: unknown.

        Awaitable while that one is still on its way; it raises what that one was refused with.
        """

    def put(
        self,
        entries: Sequence[Entry],
        done: PutDone | None = None,
        dedup: tuple[str, str, bytes] | None = None,
    ) -> None:
        """Adds each entry to its mailbox, made if missing, and delivers where there is credit.

        `done` is called once (maybe from inside): every entry is safe (durable: on disk or confirmed) or refused.
        Without `done` a refusal comes as `on_end(entry, End.REFUSED, code)`; nothing is called for what is safe.
        `dedup` = (sender, key, answer): remembered together with the entries; a repeat changes nothing
        and gets that answer.
        Never raises for a delivery or storage problem: PutResult says it.
        """

    async def subscribe(self, address: str, policy: MailboxPolicy, consumer: Consumer) -> Subscription:
        """Returns when the subscription stands, or stands in line; the mailbox is made if missing.

        Several may share one mailbox: in turn; of an exclusive one (`MailboxPolicy`): one after the other. The line is
        the broker's: it gets the mailbox of a node that died to the next one, and nothing from two at once.
        """

    def ack(self, entries: Sequence[Entry]) -> None:
        """Confirmed or remembered elsewhere: forget them. Unknown or already forgotten ones are ignored."""

    def release(self, entries: Sequence[Entry], *, delay: float = 0.0) -> None:
        """Back into the mailbox, in their first order, before everything that waits; after `delay` seconds."""

    async def peek(self, address: str, limit: int = 100, after: str = "") -> list[Entry]:
        """What waits, oldest first, without taking it; `after`: a message id to go on from."""

    async def purge(self, address: str) -> int:
        """Ends all that waits with (`dropped`, `purged`); how many."""

    async def requeue(self, address: str, message_id: str, to: str, policy: MailboxPolicy) -> bool:
        """Moves one waiting message to the end of another (or the same) mailbox; False: it does not wait there."""

    async def delete(self, address: str) -> bool:
        """Purges and removes the mailbox; False: there is none. Its subscriptions end."""

    def exists(self, address: str) -> bool:
        """True when the mailbox is known to exist; providers that cannot tell: after their first put or subscribe."""

    async def mailbox(self, address: str) -> MailboxStatistics | None:
        """Of the whole installation, as far as the provider can tell (`EXACT_DEPTH`)."""

    async def mailboxes(self, prefix: str = "", after: str = "", limit: int = 100) -> list[MailboxStatistics]: ...

    def trouble(self) -> str:
        """Why new messages are refused now; "" when they are not. Cheap, unlike `statistics`."""

    def statistics(self) -> BrokerStatistics: ...
