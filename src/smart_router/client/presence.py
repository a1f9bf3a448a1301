"""Who is there, as the router answers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from smart_router.errors import ProtocolError

__all__ = ["Presence", "encode_actors", "encode_status", "read_presence"]

_encode = msgspec.json.encode


class Presence(msgspec.Struct, frozen=True):
    """`presence`: `online`, `idle`, `away`, `unreachable` or `offline`. `last_seen`: ms since 1970 UTC, if known."""

    actor: str
    presence: str
    last_seen: int | None = None


class _Answer(msgspec.Struct):
    presence: list[Presence]


def encode_actors(actors: Sequence[str]) -> msgspec.Raw:
    return msgspec.Raw(_encode({"actors": actors}))


def encode_status(status: str) -> msgspec.Raw:
    return msgspec.Raw(_encode({"status": status}))


def read_presence(answer: bytes) -> list[Presence]:
    try:
        return msgspec.json.decode(answer, type=_Answer).presence
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ProtocolError("the server sent an answer of another shape") from error
