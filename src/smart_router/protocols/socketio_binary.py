"""Attachments of Socket.IO packets: collecting them, and the placeholders that stand for them in the JSON.

A placeholder is `{"_placeholder":true,"num":0}`, its two keys in any order. An object that a client would take for one
and that is written in any other way (more keys, an escaped key, another kind of number) is refused: it could not be
renumbered safely. In packets without attachments placeholders are plain data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from smart_router.errors import ProtocolError
from smart_router.protocols.json_limits import decode_json
from smart_router.protocols.socketio_packet import LIMITS, Limits, Packet

__all__ = ["BinaryAssembler", "check_placeholders", "take_attachments"]

# A string is one token, so that nothing inside it is taken for a placeholder.
_TOKEN: Final = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    rb'|\{\s*+(?:"_placeholder"\s*+:\s*+true\s*+,\s*+"num"\s*+:\s*+(0|[1-9][0-9]*+)'
    rb'|"num"\s*+:\s*+(0|[1-9][0-9]*+)\s*+,\s*+"_placeholder"\s*+:\s*+true)\s*+\}',
    re.DOTALL,
)
_MAX_DIGITS: Final = 9

_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Numbers do not matter here: kept as text, none is out of range.
_decode_any: Final = msgspec.json.Decoder(float_hook=str).decode


class BinaryAssembler:
    """One binary packet between its text and its last attachment."""

    __slots__ = ("_frames", "_limit", "_packet", "_size")

    def __init__(self, packet: Packet, limits: Limits = LIMITS) -> None:
        """`packet`: of a binary type. ProtocolError if its placeholders and its attachments can't fit."""
        check_placeholders(packet.data, packet.attachments, limits.depth)
        self._packet = packet
        self._frames: list[bytes] = []
        self._limit = limits.message_bytes
        self._size = len(packet.data)

    def add(self, frame: bytes) -> Packet | None:
        """Take the next attachment; the packet, once it is complete."""
        self._size += len(frame)
        if self._size > self._limit:
            raise ProtocolError("attachments are too large", close_code=1009)
        self._frames.append(frame)
        if len(self._frames) < self._packet.attachments:
            return None
        self._packet.frames = tuple(self._frames)
        return self._packet


def check_placeholders(data: bytes, attachments: int, max_depth: int) -> None:
    """Raise ProtocolError unless this is a JSON array in which every placeholder names one of so many attachments."""
    decode_json(_decode_array, data, max_depth)  # first: in malformed JSON the search would not be linear

    def check(match: re.Match[bytes]) -> bytes:
        digits = match[1] or match[2]
        if digits is None:
            return match[0]
        if len(digits) > _MAX_DIGITS or int(digits) >= attachments:
            raise ProtocolError("placeholder names no attachment")
        return b"null"

    rest = _TOKEN.sub(check, data)
    # What is left may hold none, in whatever spelling.
    if (b'"_placeholder"' in rest or b"\\u" in rest) and _holds_placeholder(decode_json(_decode_any, rest, max_depth)):
        raise ProtocolError("placeholder is not written as one")


def take_attachments(value: bytes, frames: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """A checked piece of a packet's JSON, its placeholders numbered anew in order of appearance, and its attachments.

    With no attachment in it, it can only travel in a packet without any.
    """
    numbers: dict[int, int] = {}

    def renumber(match: re.Match[bytes]) -> bytes:
        digits = match[1] or match[2]
        if digits is None:
            return match[0]
        return b'{"_placeholder":true,"num":%d}' % numbers.setdefault(int(digits), len(numbers))

    renumbered = _TOKEN.sub(renumber, value)
    return renumbered, [frames[number] for number in numbers]


def _holds_placeholder(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("_placeholder") is True:
                return True
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
