"""Socket.IO packets for tests: made at random near the edge of what is allowed, and read as far as our codec goes."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from smart_router.errors import ProtocolError
from smart_router.protocols.json_limits import decode_json
from smart_router.protocols.socketio import (
    ACK,
    BINARY_ACK,
    BINARY_EVENT,
    CONNECT,
    EVENT,
    BinaryAssembler,
    Packet,
    decode_acknowledgement,
    decode_connect,
    decode_event,
    decode_packet,
    take_attachments,
)

__all__ = ["Reading", "plain_value", "read_packet", "some_packet", "validate"]

_T = TypeVar("_T")

NAMES = ('"talk"', '"message"', '"\\u0041é"', '""')
ODD_NAMES = ('"connect"', '"newListener"', '"disconnecting"', '"__proto__"', "7", "null", "[]")
VALUES = (
    *("1", "-0", "0.5", "1e2", "1E-7", "9007199254740993", "123456789012345678901234567890", "1e400", "null", "true"),
    *('""', '"a"', '"é"', '"\\u0041"', '"\\ud83d\\ude00"', '"[{\\"\\\\"', '"😀"', "[]", "{}", '[1,{"a":[2]}]'),
    *('{"a":1,"a":2}', '{"constructor":1}', '{"_placeholder":true,"num":5}', '"]"', '{"__proto__":[7]}'),
)
BAD_VALUES = ("NaN", "01", '"\\ud800"', '"\\x"', '"\t"', "tru", "[1,]", '{"a"}', "'a'", "")
PLACEHOLDERS = (
    *('{"_placeholder":true,"num":0}',) * 12,
    *('{"_placeholder":true,"num":1}',) * 3,
    *('{"num":0,"_placeholder":true}', '{ "_placeholder" : true , "num" : 1 }'),
    *("1", '{"a":1,"a":2}', '{"__proto__":[7]}', '"]"', "1e400"),
)
BAD_PLACEHOLDERS = (
    *('{"_placeholder":true,"num":9}', '{"_placeholder":true,"num":"0"}', '{"_placeholder":true}'),
    *('{"_placeholder":true,"num":0,"x":1}', '{"\\u005fplaceholder":true,"num":0}', '{"_placeholder":true,"num":0.5}'),
    *('{"_placeholder":true,"num":-1}', '{"_placeholder":false,"num":7}'),
    *('"{\\"_placeholder\\":true,\\"num\\":5}"', '{"_placeholder":true,"num":0,"num":7}'),
)
NAMESPACES = (*("",) * 6, *("/chat,",) * 3, "/a/b?c=d,")
ODD_NAMESPACES = ("/,", "/chat", "/é,", "/a[b],", "/" + "n" * 127 + ",", "/" + "n" * 128 + ",", "/\x01,")
IDS = (*("",) * 6, "0", "7", "123", "8", "9", "42", "9007199254740992")
ODD_IDS = ("007", "9007199254740993", "99999999999999999999", "-1", " ")
COUNTS = ("1-", "1-", "2-", "10-")
ODD_COUNTS = ("11-", "0-", "-", "", "01-", "1e0-", "-1-", "1000000000-")
ALPHABET = '0123456789-/,[]{}":.\\ \teEx_nulltrué\u00a0\x7f'


class Reading(NamedTuple):
    """A packet as an application sees it; infinite numbers read None, binary values {"$binary": base64}."""

    type: int
    namespace: str
    ack_id: int | None
    data: Any


def some_packet(chance: random.Random) -> tuple[str, list[bytes]]:
    """A Socket.IO packet without Engine.IO's type byte, with its binary frames: good, nearly good or bad."""
    kind = chance.choice("22222233355556601478")
    count = _mostly(COUNTS, ODD_COUNTS, chance) if kind in "56" or chance.random() < 0.02 else ""
    head = kind + count + _mostly(NAMESPACES, ODD_NAMESPACES, chance)
    ack_id = _mostly(IDS, ODD_IDS, chance) if kind in "2356" or chance.random() < 0.1 else ""
    if kind in "36" and not ack_id and chance.random() < 0.9:
        ack_id = "7"
    text = head + ack_id + _data(kind, chance)
    if chance.random() < 0.25:
        text = _mutated(text, chance)
    announced = int(count[:-1]) if count[:-1].isdigit() else 1
    number = max(0, min(announced, 12) - _mostly((0,), (1, -1), chance)) if kind in "56" else 0
    return text, [chance.randbytes(chance.randrange(4)) for _ in range(number)]


def _mostly(usual: Sequence[_T], odd: Sequence[_T], chance: random.Random) -> _T:
    return chance.choice(odd if chance.random() < 0.08 else usual)


def _data(kind: str, chance: random.Random) -> str:
    if kind in "014":
        return chance.choice(("", "", '{"token":1}', "{}", '{"pid":"p","offset":"o"}', "null", "[]", '"text"', " {}"))
    good = PLACEHOLDERS if kind in "56" else VALUES
    bad = (*BAD_PLACEHOLDERS, *BAD_VALUES)
    parts = [_mostly(good, bad, chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    if chance.random() < 0.05:
        depth = chance.choice((10, 62, 63, 64, 65, 200))
        parts.append("[" * depth + "]" * depth)
    if kind in "25" and chance.random() < 0.97:
        parts.insert(0, _mostly(NAMES, ODD_NAMES, chance))
    return "[" + chance.choice((",", ",", ", ")).join(parts) + "]"


def _mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(text) + 1)
        text = text[:at] + chance.choice(("", chance.choice(ALPHABET))) + text[at + chance.randrange(2) :]
    return text


def read_packet(text: str, frames: Sequence[bytes]) -> Reading:
    """What our codec makes of a packet that is complete; ProtocolError if it refuses it."""
    packet = decode_packet(b"4" + text.encode())
    whole: Packet | None = packet
    if packet.attachments:
        assembler = BinaryAssembler(packet)
        whole = None
        for frame in frames:
            if whole is not None:
                raise ProtocolError("one binary frame too many")
            whole = assembler.add(frame)
        if whole is None:
            raise ProtocolError("not complete")
    elif frames:
        raise ProtocolError("binary frames that nothing announced")
    data = validate(packet)
    kind = {BINARY_EVENT: EVENT, BINARY_ACK: ACK}.get(packet.type, packet.type)
    if packet.attachments and data is not None:
        data, taken = take_attachments(data, packet.frames)
        return Reading(kind, packet.namespace, packet.ack_id, plain_value(json.loads(data), taken))
    return Reading(kind, packet.namespace, packet.ack_id, None if data is None else plain_value(json.loads(data)))


def validate(packet: Packet) -> bytes | None:
    """All of a packet's JSON, checked as its type asks for."""
    if packet.type in (EVENT, BINARY_EVENT):
        name, arguments = decode_event(packet.data)
        return b"[" + b",".join((msgspec.json.encode(name), *map(bytes, arguments))) + b"]"
    if packet.type in (ACK, BINARY_ACK):
        return b"[" + b",".join(map(bytes, decode_acknowledgement(packet.data))) + b"]"
    if not packet.data:
        return None
    if packet.type == CONNECT:
        decode_connect(packet.data)
    else:
        decode_json(msgspec.json.Decoder(dict[str, msgspec.Raw] | str).decode, packet.data)
    return packet.data


def plain_value(value: Any, frames: Sequence[bytes] | None = None) -> Any:
    """A decoded value in the form of `Reading.data`; with `frames`, placeholders are replaced."""
    if isinstance(value, dict):
        if frames is not None and value.get("_placeholder") is True:
            return {"$binary": base64.b64encode(frames[value["num"]]).decode()}
        return {key: plain_value(inner, frames) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_value(inner, frames) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if abs(float(value)) == float("inf") else float(value)
    return value
