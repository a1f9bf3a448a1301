"""What became of each message, per delivery class: the part of an address before its first slash.

Nothing here knows the router: it compares what senders say was acknowledged with what receivers say has arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from faults.records import Acknowledged, Connected, Invoked, Ready, Received, Record, Refused

__all__ = ["DURABLE", "Verdict", "check", "failures", "longest_absence", "slowest_return"]

# Classes of faults/server.toml that promise to lose nothing.
DURABLE = ("received", "client")

Message = tuple[str, int]


class Verdict(msgspec.Struct):
    """Counts of one class."""

    name: str
    sent: int = 0
    acknowledged: int = 0
    received: int = 0
    """Different messages that arrived."""
    lost: int = 0
    """Acknowledged, and never received."""
    repeated: int = 0
    """Arrivals after the first of the same message, however they are marked."""
    other_id: int = 0
    """Of these, with another `id` than the first: the sender repeated what had not been answered."""
    unmarked: int = 0
    """Of these, with the same `id` and without `redelivered: true`."""
    misordered: int = 0
    """First arrivals after a later message of the same sender, not marked as a repeat."""
    late: int = 0
    """First arrivals after a later one that are marked as a repeat: an earlier delivery of it was lost."""
    forged: int = 0
    """Arrived and never sent, not as sent, at the wrong receiver, or with a `from` that is not its sender."""
    unacknowledged: int = 0
    """Sent, never answered."""
    refused: int = 0
    """Sent, and in the end refused with an error that is not temporary."""
    longest_wait: float = 0.0
    """Seconds from a message's making to its first arrival, at most."""
    answers_differ: int = 0
    """Repeats that were answered with another `id` than the first time."""


def check(records: Iterable[Record]) -> list[Verdict]:
    """The verdicts, by name. `records` in order of time."""
    books: dict[str, _Book] = {}
    for record in records:
        if isinstance(record, Invoked | Acknowledged | Refused):
            name = record.sender.split("/", 1)[0]
        elif isinstance(record, Received):
            name = record.receiver.split("/", 1)[0]
        else:
            continue
        books.setdefault(name, _Book(name)).add(record)
    return [books[name].verdict() for name in sorted(books)]


def failures(verdicts: Iterable[Verdict]) -> list[str]:
    """What breaks a promise: any forged message; any lost, misordered or unanswered one of a durable class."""
    found = []
    for verdict in verdicts:
        broken = ["forged"] + (["lost", "misordered", "unacknowledged"] if verdict.name in DURABLE else [])
        found += [f"{verdict.name}: {getattr(verdict, what)} {what}" for what in broken if getattr(verdict, what)]
    return found


def slowest_return(records: Iterable[Record]) -> float | None:
    """The longest time from a server's being ready again to a client's next greeting; None without a restart."""
    slowest, ready, waiting, known = None, 0.0, set[str](), set[str]()
    for record in records:
        if isinstance(record, Ready):
            ready, waiting = record.t, set(known)
        elif isinstance(record, Connected):
            if record.client in waiting:
                waiting.discard(record.client)
                slowest = max(slowest or 0.0, record.t - ready)
            known.add(record.client)
    return slowest


def longest_absence(records: Iterable[Record]) -> float | None:
    """The longest time from the loss of a connection to the same client's next greeting, on any server."""
    return max((record.away for record in records if isinstance(record, Connected) and record.away), default=None)


class _Book:
    """The messages of one class."""

    def __init__(self, name: str) -> None:
        self._verdict = Verdict(name)
        self._sent: dict[Message, Invoked] = {}
        self._answers: dict[Message, str] = {}
        self._refused: set[Message] = set()
        self._out: set[Message] = set()
        self._arrived: dict[Message, set[str]] = defaultdict(set)
        self._newest: dict[tuple[str, str], int] = defaultdict(lambda: -1)

    def add(self, record: Invoked | Acknowledged | Refused | Received) -> None:
        message = (record.sender, record.n)
        if isinstance(record, Invoked):
            self._sent[message] = record
        elif isinstance(record, Acknowledged):
            if self._answers.setdefault(message, record.id) != record.id:
                self._verdict.answers_differ += 1
        elif isinstance(record, Refused):
            self._refused.add(message)
            if not record.temporary:
                self._out.add(message)
        else:
            self._arrival(message, record)

    def _arrival(self, message: Message, record: Received) -> None:
        sent = self._sent.get(message)
        as_sent = sent and (sent.hash, sent.to, sent.sender) == (record.hash, record.receiver, record.origin)
        if not as_sent:
            self._verdict.forged += 1
        elif message in self._arrived:
            self._repeat(message, record)
        else:
            assert sent is not None
            self._verdict.longest_wait = max(self._verdict.longest_wait, record.t - sent.t)
            self._first(message, record)
            self._arrived[message].add(record.id)

    def _repeat(self, message: Message, record: Received) -> None:
        ids = self._arrived[message]
        self._verdict.repeated += 1
        if record.id not in ids:
            self._verdict.other_id += 1
            ids.add(record.id)
        elif not record.redelivered:
            self._verdict.unmarked += 1

    def _first(self, message: Message, record: Received) -> None:
        pair = (record.sender, record.receiver)
        if record.n > self._newest[pair]:
            self._newest[pair] = record.n
        elif message in self._refused:
            pass  # its sender repeated it after later ones: that is the sender's order
        elif record.redelivered:
            self._verdict.late += 1
        else:
            self._verdict.misordered += 1

    def verdict(self) -> Verdict:
        answered = self._answers.keys()
        self._verdict.sent = len(self._sent)
        self._verdict.acknowledged = len(answered)
        self._verdict.received = len(self._arrived)
        self._verdict.lost = len(answered - self._arrived.keys())
        self._verdict.refused = len(self._out - answered)
        self._verdict.unacknowledged = len(self._sent.keys() - answered - self._out)
        return self._verdict
