"""What nodes that keep each other's tables tell each other, as MessagePack.

A node counts its publications of changes. Every report carries the count, so who missed one notices, and asks for the
whole table: it comes in parts, all of one count, in one go.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from smart_router.directory.base import NodeRecord, SessionRecord, SessionState

__all__ = [
    "Announcement",
    "Ask",
    "Changes",
    "Leave",
    "Part",
    "Report",
    "Row",
    "decode",
    "encode",
    "parts",
    "record_of",
]

PART_BYTES: Final = 200_000
"""Of one part of a table, or of one publication of changes, about."""


class Row(NamedTuple):
    """A session of the node that says so. `state`: None for the usual one."""

    id: str
    actor: str
    endpoint: str
    subject: str
    since: int
    state: SessionState | None = None


class Report(msgspec.Struct, frozen=True, array_like=True, tag="report"):
    """What the node says of itself. `count`: of its changes so far. `knows`: the other nodes that it knows of."""

    node: NodeRecord
    count: int
    please_answer: bool = False
    knows: list[str] = []


class Changes(msgspec.Struct, frozen=True, array_like=True, tag="changes"):
    """The change with this number. `gone`: (actor, session id)."""

    count: int
    come: list[Row]
    gone: list[tuple[str, str]]


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """For the whole table of the node that it is sent to."""


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """Of a table as it was after the change `count`; numbered from 0."""

    count: int
    number: int
    last: bool
    rows: list[Row]


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="leave"):
    """The node ends, and its sessions with it."""


Announcement = Report | Changes | Ask | Part | Leave

_USUAL: Final = SessionState()
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Announcement]] = msgspec.msgpack.Decoder(Announcement)
encode: Final = _encoder.encode


def decode(data: bytes) -> Announcement | None:
    """None: not one of ours, or of a version that knows more."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def parts(sessions: Iterable[SessionRecord]) -> Iterator[list[Row]]:
    """The sessions as rows, as many at a time as one publication should carry; at least one list, maybe empty."""
    rows: list[Row] = []
    size = 0
    for session in sessions:
        state = session.state if session.state != _USUAL else None
        row = Row(session.id, session.actor, session.endpoint, session.subject, session.since, state)
        size += len(_encoder.encode(row))
        if size > PART_BYTES and rows:
            yield rows
            rows, size = [], 0
        rows.append(row)
    yield rows


def record_of(row: Row, node: str) -> SessionRecord:
    """What many have in common is kept once."""
    subject = row.actor if row.subject == row.actor else row.subject
    return SessionRecord(
        row.id, row.actor, sys.intern(row.endpoint), node, subject, row.since, row.state if row.state else _USUAL
    )
