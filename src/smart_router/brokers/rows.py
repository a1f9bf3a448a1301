"""The form of a message on disk: one row of the journal is (seq, data).

    data = crc32 · version · flags · priority · address length · size · expires_at │ address │ msgpack of the rest

The checksum covers the row's number and all of its bytes: a damaged row is never taken for another.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

import msgspec

from smart_router.errors import StorageError
from smart_router.message import Message, is_address

__all__ = ["CorruptRow", "Head", "decode_head", "decode_row", "encode_row"]

_HEAD: Final = struct.Struct("<IBBBxHIq")
_CRC: Final = struct.Struct("<I")
_FLAGS: Final = 5  # where they stand in the head
_VERSION: Final = 1
_SUPERSEDES: Final = 1
_WANTS: Final = 2  # the rest has two more: what the sender is to be told

_Rest = tuple[str, str, int, str, bytes, tuple[bytes, ...], str | None, str | None]
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Rest)
_LongRest = tuple[str, str, int, str, bytes, tuple[bytes, ...], str | None, str | None, int, str | None]
_long_decoder: Final = msgspec.msgpack.Decoder(_LongRest)


class CorruptRow(StorageError):
    """A row whose bytes are not what was written."""


class Head(NamedTuple):
    """What stands for a row in memory."""

    address: str
    priority: int
    expires_at: int
    size: int
    supersede: str | None


def encode_row(seq: int, address: str, message: Message) -> bytes:
    name = address.encode()
    fields: tuple[object, ...] = (
        message.id,
        message.sender,
        message.at,
        message.type,
        message.body,
        message.attachments,
        message.supersede,
        message.key,
    )
    flags = 0 if message.supersede is None else _SUPERSEDES
    if message.wants:
        flags |= _WANTS
        fields = (*fields, message.wants, message.asker)
    rest = _encoder.encode(fields)
    priority = min(max(message.priority, 0), 9)
    head = _HEAD.pack(0, _VERSION, flags, priority, len(name), message.size, message.expires_at)
    data = b"".join((head[4:], name, rest))
    return _CRC.pack(zlib.crc32(data, seq & 0xFFFFFFFF)) + data


def decode_head(seq: int, data: bytes) -> Head:
    """Checks the whole row, reads its head. CorruptRow for anything that `encode_row` did not write."""
    try:
        crc, version, flags, priority, length, size, expires_at = _HEAD.unpack_from(data)
        if crc != zlib.crc32(memoryview(data)[4:], seq & 0xFFFFFFFF) or version != _VERSION:
            raise CorruptRow(f"row {seq} of the journal is damaged")
        end = _HEAD.size + length
        address = data[_HEAD.size : end].decode()
        supersede = _rest(flags, data, end)[6] if flags & _SUPERSEDES else None
    except (struct.error, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise CorruptRow(f"row {seq} of the journal is damaged") from error
    if not is_address(address) or priority > 9:
        raise CorruptRow(f"row {seq} of the journal is damaged")
    return Head(address, priority, expires_at, size, supersede)


def decode_row(seq: int, data: bytes) -> tuple[str, Message]:
    """(address, message) of a row; CorruptRow for anything that `encode_row` did not write."""
    head = decode_head(seq, data)
    try:
        rest = _rest(data[_FLAGS], data, _HEAD.size + len(head.address))
    except msgspec.DecodeError as error:
        raise CorruptRow(f"row {seq} of the journal is damaged") from error
    identifier, sender, at, type_, body, attachments, supersede, key, wants, asker = rest
    message = Message(
        id=identifier,
        sender=sender,
        at=at,
        type=type_,
        body=body,
        attachments=attachments,
        priority=head.priority,
        expires_at=head.expires_at,
        supersede=supersede,
        key=key,
        wants=wants,
        asker=asker,
    )
    return head.address, message


def _rest(flags: int, data: bytes, start: int) -> _LongRest:
    packed = memoryview(data)[start:]
    return _long_decoder.decode(packed) if flags & _WANTS else (*_decoder.decode(packed), 0, None)
