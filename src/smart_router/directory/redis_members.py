"""How sessions stand in Redis: members of a sorted set per partition, all of one score, so ordered as bytes.

    "ui/456/alice s17 node-1a2b.3 " + MessagePack(endpoint, subject, since, state or nothing)
      actor         id  owner

An owner is one life of a node: its id and a number, new after each outage. So what an earlier life has written is known
as such, and dead for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from smart_router.directory.base import SessionRecord, SessionState

__all__ = [
    "PARTITIONS",
    "Found",
    "Member",
    "life_of",
    "member_of",
    "node_of",
    "owner_of",
    "page_range",
    "partition_of",
    "range_of",
    "read_member",
]

PARTITIONS: Final = 256

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, str, int, SessionState | None]).decode
_USUAL: Final = SessionState()


class Member(NamedTuple):
    owner: str
    session: SessionRecord


class Found:
    """What Redis has answered: read once, for all who asked. `live`: what is left of it, when that has been found."""

    __slots__ = ("live", "owners", "read")

    def __init__(self, members: Iterable[bytes]) -> None:
        every = ((member, read_member(member)) for member in members)
        self.read = [(member, read) for member, read in every if read is not None]
        self.owners = {read.owner for _, read in self.read}
        self.live: list[SessionRecord] | None = None


def partition_of(actor: str) -> int:
    return crc32(actor.encode()) % PARTITIONS


def owner_of(node: str, life: int) -> str:
    return f"{node}.{life}"


def node_of(owner: str) -> str:
    return owner.rpartition(".")[0]


def life_of(owner: str) -> int:
    """0: no owner of ours."""
    number = owner.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 16 else 0


def member_of(session: SessionRecord, owner: str) -> bytes:
    head = f"{session.actor} {session.id} {owner} "
    state = session.state if session.state != _USUAL else None
    return head.encode() + _encode((session.endpoint, session.subject, session.since, state))


def read_member(member: bytes) -> Member | None:
    """None: not one of ours."""
    try:
        actor, id_, owner, data = member.split(b" ", 3)
        endpoint, subject, since, state = _decode(data)
        name = sys.intern(owner.decode())
        node = node_of(name)
        session = SessionRecord(id_.decode(), actor.decode(), endpoint, node, subject, since, state or _USUAL)
    except (ValueError, msgspec.DecodeError):  # UnicodeDecodeError is a ValueError
        return None
    return Member(name, session)


def range_of(actor: str) -> tuple[bytes, bytes]:
    """First and end of its members, as ZRANGE … BYLEX has it. No actor's id has a character as low as `!`."""
    return f"[{actor} ".encode(), f"({actor}!".encode()


def page_range(prefix: str, after: str) -> tuple[bytes, bytes]:
    """First and end of what Directory.sessions is to tell."""
    first = prefix.encode()
    behind = after.encode() + b" \xff"
    start = b"(" + behind if after and behind > first else b"[" + first
    return start, b"(" + first + b"\xff" if first else b"+"
