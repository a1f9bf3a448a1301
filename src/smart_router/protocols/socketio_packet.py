"""Socket.IO 5 packets as they travel in Engine.IO text messages: `42/chat,7["talk",{…}]`, the leading `4` included.

JSON stays as it came. `decode_packet` reads the head only; whoever takes the packet calls `decode_event`,
`decode_acknowledgement` or `decode_connect`, which check all of the JSON, before a byte of it goes to anybody else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from smart_router.errors import ProtocolError
from smart_router.protocols.json_limits import MAX_DEPTH

__all__ = [
    "ACK",
    "BINARY_ACK",
    "BINARY_EVENT",
    "CONNECT",
    "CONNECT_ERROR",
    "DISCONNECT",
    "EVENT",
    "LIMITS",
    "Limits",
    "Packet",
    "acknowledgement_prefix",
    "decode_packet",
    "encode_acknowledgement",
    "encode_connect",
    "encode_connect_error",
    "encode_disconnect",
    "encode_event",
    "encode_packet",
    "event_prefix",
]

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer may ask of us; beyond it is a ProtocolError."""

    depth: int = MAX_DEPTH  # nesting of a packet's JSON, its outer array included
    ack_id: int = 2**53
    namespace_bytes: int = 128
    namespaces: int = 32  # per connection, those it has left included
    attachments: int = 10  # per packet
    message_bytes: int = 131_072  # a binary packet's JSON and attachments together
    attachments_timeout: float = 10.0  # seconds from a binary packet to its last attachment
    connect_timeout: float = 45.0  # seconds to the first namespace joined


LIMITS: Final = Limits()


class Packet(msgspec.Struct, gc=False):
    """One packet: `data` is its JSON, unchecked; `attachments` how many there are, `frames` those that have come."""

    type: int
    namespace: str
    data: bytes
    ack_id: int | None = None
    attachments: int = 0
    frames: tuple[bytes, ...] = ()


# type, attachments, namespace (a comma ends it, or the packet does), acknowledgement id
_HEAD: Final = re.compile(rb"4([0-6])(?:(0|[1-9][0-9]*)-)?(?:(/[^,\x00-\x1f\x7f]*)(?:,|\Z))?(0|[1-9][0-9]*)?")
_USUAL_NAMESPACE: Final = re.compile(rb"/[A-Za-z0-9_./-]*")
_MAX_DIGITS: Final = 16  # of an id, before it is read as a number
_ZERO: Final = 0x30
_ACK: Final = 0x33
# With what the JSON of each type may begin; DISCONNECT has none.
_BEGINS: Final = (b"{", b"", b"[", b"[", b'{"', b"[", b"[")


def decode_packet(frame: bytes, limits: Limits = LIMITS) -> Packet:
    """The head of a packet; its JSON is left as it is. ProtocolError if the head is not of this protocol."""
    if frame.startswith(b"42["):
        return Packet(EVENT, "/", frame[2:])
    return _read_usual(frame, limits) or _read_any(frame, limits)


def _read_usual(frame: bytes, limits: Limits) -> Packet | None:
    """The head of an event or acknowledgement, at a third of the cost; None: `_read_any` has to look at it."""
    bracket = frame.find(b"[", 2, 256)
    if bracket < 0 or not frame.startswith((b"42", b"43")):
        return None
    comma = frame.find(b",", 2, bracket)
    digits = frame[2:bracket] if comma < 0 else frame[comma + 1 : bracket]
    if digits:
        if len(digits) >= _MAX_DIGITS or not digits.isdigit() or digits[0] == _ZERO or int(digits) > limits.ack_id:
            return None
        ack_id = int(digits)
    elif frame[1] == _ACK:
        return None
    else:
        ack_id = None
    namespace = "/" if comma < 0 else _usual_namespace(frame[2:comma])
    if namespace is None or comma - 2 > limits.namespace_bytes:
        return None
    return Packet(frame[1] - _ZERO, namespace, frame[bracket:], ack_id)


@lru_cache(maxsize=1024)
def _usual_namespace(raw: bytes) -> str | None:
    return raw.decode() if _USUAL_NAMESPACE.fullmatch(raw) else None


def _read_any(frame: bytes, limits: Limits) -> Packet:
    match = _HEAD.match(frame)
    if match is None:
        raise ProtocolError("unknown packet type")
    kind, attachments, namespace, ack_id = match.groups()
    packet = Packet(kind[0] - _ZERO, "/", frame[match.end() :])
    if namespace is not None:
        packet.namespace = _namespace(namespace, limits)
    if ack_id is not None:
        packet.ack_id = _number(ack_id, limits.ack_id, "acknowledgement id is too large")
    if attachments is not None:
        packet.attachments = _number(attachments, limits.attachments, "too many attachments")
    # No count is no attachment, and a count of none is not allowed either.
    if (packet.attachments > 0) is not (packet.type in (BINARY_EVENT, BINARY_ACK)) or attachments == b"0":
        raise ProtocolError("wrong number of attachments")
    _check_head(packet)
    return packet


def _check_head(packet: Packet) -> None:
    kind = packet.type
    if not (packet.data[0] in _BEGINS[kind] if packet.data else kind in (CONNECT, DISCONNECT)):
        raise ProtocolError("no such data in a packet of this type")
    if kind in (ACK, BINARY_ACK):
        if packet.ack_id is None:
            raise ProtocolError("acknowledgement without an id")
    elif packet.ack_id is not None and kind not in (EVENT, BINARY_EVENT):
        raise ProtocolError("no acknowledgement of a packet of this type")


def _namespace(raw: bytes, limits: Limits) -> str:
    if len(raw) > limits.namespace_bytes:
        raise ProtocolError("namespace is too long")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError("text is not UTF-8", close_code=1007) from None


def _number(digits: bytes, limit: int, complaint: str) -> int:
    if len(digits) <= _MAX_DIGITS and (number := int(digits)) <= limit:
        return number
    raise ProtocolError(complaint)


@lru_cache(maxsize=1024)
def event_prefix(namespace: str, attachments: int = 0) -> bytes:
    """What comes before an event's id and array."""
    return _prefix(BINARY_EVENT if attachments else EVENT, namespace, attachments)


@lru_cache(maxsize=1024)
def acknowledgement_prefix(namespace: str, attachments: int = 0) -> bytes:
    """What comes before an acknowledgement's id and array."""
    return _prefix(BINARY_ACK if attachments else ACK, namespace, attachments)


def _prefix(kind: int, namespace: str, attachments: int = 0) -> bytes:
    counted = f"{attachments}-" if attachments else ""
    return f"4{kind}{counted}{'' if namespace == '/' else namespace + ','}".encode()


def encode_event(
    namespace: str, name: str, arguments: bytes = b"", ack_id: int | None = None, attachments: int = 0
) -> bytes:
    """An event's text frame; `arguments`: JSON values joined by commas, or none. Binary frames follow as they are."""
    return b"".join(
        (
            event_prefix(namespace, attachments),
            b"[" if ack_id is None else b"%d[" % ack_id,
            msgspec.json.encode(name),
            b"," if arguments else b"",
            arguments,
            b"]",
        )
    )


def encode_acknowledgement(namespace: str, ack_id: int, arguments: bytes = b"", attachments: int = 0) -> bytes:
    """An acknowledgement's text frame; as `encode_event`."""
    return b"%b%d[%b]" % (acknowledgement_prefix(namespace, attachments), ack_id, arguments)


def encode_connect(namespace: str, sid: str, pid: str | None = None) -> bytes:
    """The answer to CONNECT; `pid` only where recovery is on."""
    answer = {"sid": sid} if pid is None else {"sid": sid, "pid": pid}
    return _prefix(CONNECT, namespace) + msgspec.json.encode(answer)


def encode_connect_error(namespace: str, message: str, data: bytes | None = None) -> bytes:
    """The refusal of CONNECT; `data`: more of it, as JSON."""
    answer: dict[str, str | msgspec.Raw] = {"message": message}
    if data is not None:
        answer["data"] = msgspec.Raw(data)
    return _prefix(CONNECT_ERROR, namespace) + msgspec.json.encode(answer)


def encode_disconnect(namespace: str) -> bytes:
    """The end of a namespace. A client that gets one does not come back by itself."""
    return _prefix(DISCONNECT, namespace)


def encode_packet(packet: Packet) -> bytes:
    """Any packet's text frame: what `decode_packet` takes."""
    ack_id = b"" if packet.ack_id is None else b"%d" % packet.ack_id
    return _prefix(packet.type, packet.namespace, packet.attachments) + ack_id + packet.data
