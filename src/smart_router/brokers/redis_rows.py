"""The form of a message in Redis, and the scripts that work on it.

    row = 'R' · flags · size · deadline │ [supersede key] │ msgpack of the message

The head is all that the scripts look at (redis_scripts/mailbox.lua). Redis' msgpack knows no binary type: what goes
into a call as bytes is written as its older string type (`text`).
"""

from __future__ import annotations

import struct
from importlib.resources import files
from typing import Final

import msgspec

from smart_router.brokers.base import MailboxPolicy, Overflow
from smart_router.errors import StorageError
from smart_router.message import Message
from smart_router.redis.base import Script

__all__ = ["LOOK", "TURN", "TURN_WHEN_FULL", "ForeignRow", "decode_row", "encode_row", "policy_words", "text"]

_VERSION: Final = 0x52
_HEAD: Final = struct.Struct(">BBId")
_TEXT: Final = struct.Struct(">BI")
_TEXT_AND_HEAD: Final = struct.Struct(">BIBBId")
_LENGTH: Final = struct.Struct(">H")
_OVERFLOW: Final = {Overflow.DROP_OLDEST: 0, Overflow.DROP_NEWEST: 1, Overflow.REFUSE: 2}

_encode: Final = msgspec.msgpack.Encoder().encode
_Rest = tuple[str, str, int, str, bytes, tuple[bytes, ...], int, int, str | None, str | None]
_decode: Final = msgspec.msgpack.Decoder(_Rest).decode
_LongRest = tuple[str, str, int, str, bytes, tuple[bytes, ...], int, int, str | None, str | None, int, str | None]
_decode_long: Final = msgspec.msgpack.Decoder(_LongRest).decode
_SUPERSEDES: Final = 1
_WANTS: Final = 2  # the rest has two more: what the sender is to be told


class ForeignRow(StorageError):
    """What stands in our stream was not written by us."""


def text(data: bytes) -> msgspec.Raw:
    """`data` as Redis' Lua reads bytes in a call."""
    return msgspec.Raw(_TEXT.pack(0xDB, len(data)) + data)


def encode_row(message: Message, deadline: float) -> msgspec.Raw:
    """Ready to stand in a call. `deadline`: ms of the nodes' common time, 0: never."""
    body, attachments, supersede = message.body, message.attachments, message.supersede
    fields: tuple[object, ...] = (
        message.id,
        message.sender,
        message.at,
        message.type,
        body,
        attachments,
        message.priority,
        message.expires_at,
        supersede,
        message.key,
    )
    flags = 0
    if message.wants:
        flags = _WANTS
        fields = (*fields, message.wants, message.asker)
    rest = _encode(fields)
    size = len(body) + sum(map(len, attachments)) if attachments else len(body)
    if supersede is None:
        return msgspec.Raw(_TEXT_AND_HEAD.pack(0xDB, len(rest) + 14, _VERSION, flags, size, deadline) + rest)
    key = supersede.encode()[:65_535]
    length = len(rest) + 16 + len(key)
    head = _TEXT_AND_HEAD.pack(0xDB, length, _VERSION, flags | _SUPERSEDES, size, deadline)
    return msgspec.Raw(b"".join((head, _LENGTH.pack(len(key)), key, rest)))


def decode_row(row: bytes) -> Message:
    """ForeignRow for anything that `encode_row` did not write."""
    try:
        version, flags, _, _ = _HEAD.unpack_from(row)
        start = _HEAD.size
        if flags & _SUPERSEDES:
            start += 2 + _LENGTH.unpack_from(row, start)[0]
        if version != _VERSION:
            raise ForeignRow("not a message of ours")
        return Message(*(_decode_long(row[start:]) if flags & _WANTS else _decode(row[start:])))
    except (struct.error, msgspec.DecodeError) as error:
        raise ForeignRow("not a message of ours") from error


def policy_words(policy: MailboxPolicy) -> tuple[int, int, int, int, int, int]:
    """What the scripts know of a policy."""
    return (
        policy.max_messages,
        policy.max_bytes,
        _OVERFLOW[policy.overflow],
        round(policy.idle_expiry * 1000),
        int(policy.durable),
        int(policy.exclusive),
    )


def _script(*names: str, flags: str = "") -> Script:
    folder = files("smart_router.brokers").joinpath("redis_scripts")
    parts = [folder.joinpath(f"{name}.lua").read_bytes() for name in names]
    return Script(b"\n".join([f"#!lua{flags}".encode(), *parts]))


_PARTS: Final = ("mailbox", "waiting", "take", "back", "line", "sweep", "turn")
TURN: Final = _script(*_PARTS)
TURN_WHEN_FULL: Final = _script(*_PARTS, flags=" flags=allow-oom")
"""For what must go on while Redis is at its `maxmemory`: everything but putting."""
LOOK: Final = _script("look", flags=" flags=no-writes,allow-oom")
