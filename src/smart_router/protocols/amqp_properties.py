"""A message's properties: the content header behind the body size (AMQP 0-9-1, 4.2.6.1 and 1.8).

    Properties ──► encode_properties ──► bytes (flags, then values) ──► decode_properties ──► Properties

They travel as bytes, so that who only passes a message on, or knows it already, never decodes them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_table import encode_short, encode_table, table_at

__all__ = ["PERSISTENT", "Properties", "decode_properties", "encode_properties"]

PERSISTENT: Final = 2
"""The `delivery_mode` of a message that a durable queue keeps on disk."""

_FLAGS: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")
_UNKNOWN: Final = 0b11
"""A continuation, which the class has no use for, and a property that there is not."""


class Properties(msgspec.Struct, gc=False):
    """None: not there. `timestamp`: seconds since 1970. `expiration`: milliseconds, as text. Texts: at most 255 bytes.

    RabbitMQ checks `user_id`. The deprecated cluster id is skipped.
    """

    delivery_mode: int | None = None
    message_id: str | None = None
    type: str | None = None
    headers: Mapping[str, Any] | None = None
    timestamp: int | None = None
    priority: int | None = None
    expiration: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    app_id: str | None = None


def encode_properties(properties: Properties) -> bytes:
    """ValueError: something does not fit its field."""
    flags = 0
    parts = [b""]
    for bit, name, encode in _ENCODERS:
        value = getattr(properties, name)
        if value is not None:
            flags |= bit
            parts.append(encode(value))
    parts[0] = _FLAGS.pack(flags)
    return b"".join(parts)


def _encode_octet(value: int) -> bytes:
    return bytes((value,))


def _encode_u64(value: int) -> bytes:
    try:
        return _U64.pack(value)
    except struct.error:
        raise ValueError("a timestamp has 64 bits and no sign") from None


_ENCODERS: Final = (
    # in the order of the wire
    (1 << 15, "content_type", encode_short),
    (1 << 14, "content_encoding", encode_short),
    (1 << 13, "headers", encode_table),
    (1 << 12, "delivery_mode", _encode_octet),
    (1 << 11, "priority", _encode_octet),
    (1 << 10, "correlation_id", encode_short),
    (1 << 9, "reply_to", encode_short),
    (1 << 8, "expiration", encode_short),
    (1 << 7, "message_id", encode_short),
    (1 << 6, "timestamp", _encode_u64),
    (1 << 5, "type", encode_short),
    (1 << 4, "user_id", encode_short),
    (1 << 3, "app_id", encode_short),
)


def decode_properties(data: bytes) -> Properties:
    """ProtocolError: these are no properties."""
    try:
        flags = _FLAGS.unpack_from(data)[0]
        if flags & _UNKNOWN:
            raise ProtocolError("AMQP: unknown properties")
        properties = Properties()
        at = 2
        for bit, name, decode in _DECODERS:
            if flags & bit:
                value, at = decode(data, at)
                if name:
                    setattr(properties, name, value)
    except (struct.error, IndexError):
        raise ProtocolError("AMQP: properties are cut short") from None
    except UnicodeDecodeError:
        raise ProtocolError("AMQP: a property is not UTF-8") from None
    if at != len(data):
        raise ProtocolError("AMQP: properties do not end with the frame")
    return properties


def _octet(data: bytes, at: int) -> tuple[int, int]:
    return data[at], at + 1


def _short(data: bytes, at: int) -> tuple[str, int]:
    start = at + 1
    end = start + data[at]
    if end > len(data):
        raise IndexError
    return data[start:end].decode(), end


def _u64(data: bytes, at: int) -> tuple[int, int]:
    return int(_U64.unpack_from(data, at)[0]), at + 8


_DECODERS: Final = (
    (1 << 15, "content_type", _short),
    (1 << 14, "content_encoding", _short),
    (1 << 13, "headers", table_at),
    (1 << 12, "delivery_mode", _octet),
    (1 << 11, "priority", _octet),
    (1 << 10, "correlation_id", _short),
    (1 << 9, "reply_to", _short),
    (1 << 8, "expiration", _short),
    (1 << 7, "message_id", _short),
    (1 << 6, "timestamp", _u64),
    (1 << 5, "type", _short),
    (1 << 4, "user_id", _short),
    (1 << 3, "app_id", _short),
    (1 << 2, "", _short),
)
