"""The JSON of Socket.IO packets: checked in full, decoded no further than the protocol needs."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from smart_router.errors import ProtocolError
from smart_router.protocols.json_limits import MAX_DEPTH, check_json, decode_json

__all__ = ["RESERVED_EVENTS", "ConnectData", "decode_acknowledgement", "decode_connect", "decode_event"]

# Names that clients and servers use for events of their own: none comes over the wire.
RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)

_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_string: Final = msgspec.json.Decoder(str).decode


class ConnectData(NamedTuple):
    """What a client sends with CONNECT: its object as it came, and its claim to an earlier session, if it makes one."""

    auth: bytes
    pid: str | None
    offset: str | None


class _Recovery(msgspec.Struct):
    pid: msgspec.Raw = msgspec.Raw(b"null")
    offset: msgspec.Raw = msgspec.Raw(b"null")


_decode_recovery: Final = msgspec.json.Decoder(_Recovery).decode


def decode_event(data: bytes, max_depth: int = MAX_DEPTH) -> tuple[str, list[msgspec.Raw]]:
    """Name and arguments. The arguments are views of `data`, valid JSON, safe to forward.

    ProtocolError: not an array, no name, a name that is no string or a reserved one, or JSON that is refused.
    """
    check_json(data, max_depth)
    try:
        arguments = _decode_array(data)
        name = _decode_string(arguments.pop(0))
    except (msgspec.DecodeError, RecursionError, IndexError):
        raise ProtocolError("event is not a JSON array that begins with a name") from None
    if name in RESERVED_EVENTS:
        raise ProtocolError("event name is reserved")
    return name, arguments


def decode_acknowledgement(data: bytes, max_depth: int = MAX_DEPTH) -> list[msgspec.Raw]:
    """The arguments of an acknowledgement; as `decode_event`."""
    return decode_json(_decode_array, data, max_depth)


def decode_connect(data: bytes, max_depth: int = MAX_DEPTH) -> ConnectData:
    """What came with CONNECT; `{}` stands for nothing. A `pid` or `offset` that is no string counts as none."""
    if not data:
        return ConnectData(b"{}", None, None)
    recovery = decode_json(_decode_recovery, data, max_depth)
    return ConnectData(data, _string_or_none(recovery.pid), _string_or_none(recovery.offset))


def _string_or_none(value: msgspec.Raw) -> str | None:
    return _decode_string(value) if bytes(value).startswith(b'"') else None
