"""Cursors: where a list goes on. Opaque to clients; one of another list, of other filters or of another version of ours
is refused, and never taken for a place in this list."""

from __future__ import annotations

import zlib
from base64 import b64decode, urlsafe_b64encode
from typing import Any, Final

import msgspec

from smart_router.errors import Refused

__all__ = ["Cursor", "read_cursor", "write_cursor"]

Cursor = str

_VERSION: Final = 1
_encoder: Final = msgspec.msgpack.Encoder(order="sorted")


def write_cursor(of: object, place: object) -> Cursor:
    """`of`: the list and its filters; `place`: of the last one shown."""
    data = _encoder.encode((_VERSION, _sum(of), place))
    return urlsafe_b64encode(zlib.crc32(data).to_bytes(4, "big") + data).rstrip(b"=").decode()


def read_cursor(cursor: Cursor | None, of: object, type_: Any) -> Any:
    """The place, which is of `type_`; None without a cursor. Refused `bad_cursor`."""
    if cursor is None:
        return None
    try:
        raw = b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        version, sum_, place = msgspec.msgpack.decode(raw[4:], type=tuple[int, int, type_])
    except (ValueError, msgspec.MsgspecError):
        raise _bad() from None
    if (version, sum_) != (_VERSION, _sum(of)) or raw[:4] != zlib.crc32(raw[4:]).to_bytes(4, "big"):
        raise _bad()
    return place


def _sum(of: object) -> int:
    return zlib.crc32(_encoder.encode(of))


def _bad() -> Refused:
    return Refused("bad_cursor", "This cursor belongs to another list, or to other filters: begin again without it.")
