"""Engine.IO 4 packets, and the bodies that carry several of them over HTTP polling."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from typing import Final

import msgspec

from smart_router.errors import ProtocolError

__all__ = [
    "CLOSE",
    "MAX_DECODE_PACKETS",
    "MESSAGE",
    "NOOP",
    "OPEN",
    "PING",
    "PONG",
    "SEPARATOR",
    "UPGRADE",
    "Packet",
    "decode_payload",
    "encode_payload",
    "encoded_size",
]

# The first byte of a text packet.
OPEN: Final = 0x30
CLOSE: Final = 0x31
PING: Final = 0x32
PONG: Final = 0x33
MESSAGE: Final = 0x34
UPGRADE: Final = 0x35
NOOP: Final = 0x36

SEPARATOR: Final = b"\x1e"
MAX_DECODE_PACKETS: Final = 1024

_TYPES: Final = frozenset(b"0123456")
_BINARY: Final = 0x62  # "b", then base64


class Packet(msgspec.Struct, frozen=True, gc=False):
    """What one WebSocket frame would carry: text with its type byte, or a binary message as it stands."""

    data: bytes
    binary: bool = False


def decode_payload(body: bytes, max_packets: int = MAX_DECODE_PACKETS) -> list[Packet]:
    """The packets of a POST body, in order. ProtocolError on an unknown type, bad base64 or more than `max_packets`."""
    if body.count(SEPARATOR) >= max_packets:
        raise ProtocolError("too many packets in one body", close_code=1009)
    return [_decode(part) for part in body.split(SEPARATOR)]


def encode_payload(packets: Iterable[Packet]) -> bytes:
    """The body that carries `packets`. Text holds no separator: JSON has no raw control characters."""
    return SEPARATOR.join([_encode(packet) for packet in packets])


def encoded_size(packet: Packet) -> int:
    """Bytes that the packet takes in a body, its separator included."""
    size = len(packet.data)
    return 2 + 4 * ((size + 2) // 3) if packet.binary else 1 + size


def _decode(part: bytes) -> Packet:
    if not part:
        raise ProtocolError("empty packet")
    if part[0] in _TYPES:
        return Packet(part)
    if part[0] != _BINARY:
        raise ProtocolError("unknown packet type")
    try:
        packet = Packet(binascii.a2b_base64(part[1:], strict_mode=True), True)
    except binascii.Error:
        raise ProtocolError("binary packet is not base64") from None
    if _encode(packet) != part:  # bits left over behind the last byte
        raise ProtocolError("binary packet is not base64")
    return packet


def _encode(packet: Packet) -> bytes:
    return b"b" + binascii.b2a_base64(packet.data, newline=False) if packet.binary else packet.data
