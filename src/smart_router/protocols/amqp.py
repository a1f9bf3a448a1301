"""AMQP 0-9-1, the client's side, without I/O: bytes ↔ calls, made for RabbitMQ.

    Encoder (one per channel): publish, ack, nack, reject, method ──► bytes            this module: frames, by hand
    bytes ──► Decoder (amqp_decoder.py) ──► Receiver (one per channel): deliver, confirm, returned, method
                                              └─ channel 0: Handshake (amqp_connection.py)
    amqp_methods.py: the rare methods, by a table; amqp_properties.py, amqp_table.py: what is in a content header

A frame is: type, channel, length, payload, the octet CE (AMQP 0-9-1, 4.2.3). A message is a method frame, a header
frame and as many body frames as its length needs (4.2.6).
"""

from __future__ import annotations

import struct
from typing import Final

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_methods import Method, encode_method

__all__ = [
    "BODY",
    "FRAME_END",
    "HEADER",
    "HEARTBEAT",
    "MAX_FRAME",
    "METHOD",
    "MIN_FRAME",
    "PROTOCOL_HEADER",
    "Encoder",
    "FrameError",
    "encode_heartbeat",
]

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END: Final = 0xCE
MIN_FRAME: Final = 4096
MAX_FRAME: Final = 131072
"""Of a whole frame; RabbitMQ's own default."""

_OVERHEAD: Final = 8
_END: Final = b"\xce"
_LENGTH: Final = tuple(bytes((n,)) for n in range(256))
_FRAME: Final = struct.Struct(">BHI").pack
_PUBLISH: Final = struct.Struct(">BHIHHHB").pack
"""Frame head, class, method, ticket, length of the exchange."""
_CONTENT: Final = struct.Struct(">BBBHIHHQ").pack
"""Bits and end of the method; head of the header frame, class, weight, body size."""
_BODY: Final = struct.Struct(">BBHI").pack
"""End of the header frame; head of the body frame."""
_TAGGED: Final = struct.Struct(">BHIHHQBB").pack
"""A whole ack, nack or reject."""


class FrameError(ProtocolError):
    """What came is not AMQP, or not allowed now. `reply_code`: for our connection.close (AMQP 0-9-1, 1.2.1)."""

    def __init__(self, reply_code: int, message: str) -> None:
        super().__init__(message if message.startswith("AMQP: ") else f"AMQP: {message}")
        self.reply_code = reply_code


def encode_heartbeat() -> bytes:
    """Always on channel 0 (4.2.7)."""
    return b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Encoder:
    """The frames that a client sends on one channel."""

    __slots__ = ("_largest", "number")

    def __init__(self, number: int, frame_max: int = MAX_FRAME) -> None:
        self.number = number
        self._largest = frame_max - _OVERHEAD

    def method(self, method: Method) -> bytes:
        """ValueError: a field does not fit, or the frame would be too large."""
        payload = encode_method(method)
        if len(payload) > self._largest:
            raise ValueError(f"{method.name} does not fit a frame")
        return _FRAME(METHOD, self.number, len(payload)) + payload + _END

    def publish(self, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes, mandatory: bool) -> bytes:
        """All frames of basic.publish (1.8.3.7). ValueError: over 255 bytes, or properties over a frame."""
        key_size = len(routing_key)
        if key_size > 255 or len(exchange) > 255 or len(properties) > self._largest - 12:
            raise ValueError("exchange and routing key have at most 255 bytes, properties fit a frame")
        size = len(body)
        number = self.number
        parts = [
            _PUBLISH(METHOD, number, len(exchange) + key_size + 9, 60, 40, 0, len(exchange)),
            exchange,
            _LENGTH[key_size],
            routing_key,
            _CONTENT(mandatory, FRAME_END, HEADER, number, len(properties) + 12, 60, 0, size),
            properties,
        ]
        if 0 < size <= self._largest:
            parts += (_BODY(FRAME_END, BODY, number, size), body, _END)
        else:
            parts += self._cut(body)
        return b"".join(parts)

    def _cut(self, body: bytes) -> list[bytes]:
        """A body of none or several frames."""
        parts = [_END]
        for start in range(0, len(body), self._largest):
            piece = body[start : start + self._largest]
            parts += (_FRAME(BODY, self.number, len(piece)), piece, _END)
        return parts

    def ack(self, delivery_tag: int, multiple: bool) -> bytes:
        return _TAGGED(METHOD, self.number, 13, 60, 80, delivery_tag, multiple, FRAME_END)

    def nack(self, delivery_tag: int, multiple: bool, requeue: bool) -> bytes:
        return _TAGGED(METHOD, self.number, 13, 60, 120, delivery_tag, multiple | requeue << 1, FRAME_END)

    def reject(self, delivery_tag: int, requeue: bool) -> bytes:
        return _TAGGED(METHOD, self.number, 13, 60, 90, delivery_tag, requeue, FRAME_END)
