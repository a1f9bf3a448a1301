"""Limits on JSON that is forwarded as it came: UTF-8 and nesting, checked without building a value.

msgspec checks the syntax even of what it skips into `Raw` (numbers, escapes, lone surrogates, control characters,
trailing bytes), with two gaps that this module closes: a skipped string may hold invalid UTF-8, and nesting is bounded
only by the interpreter's recursion limit. Integers beyond 2^53 and duplicate keys pass through untouched, as bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from smart_router.errors import ProtocolError

__all__ = ["MAX_DEPTH", "check_json", "decode_json", "is_deeper"]

MAX_DEPTH = 64

_T = TypeVar("_T")
_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def check_json(data: bytes, max_depth: int = MAX_DEPTH) -> None:
    """Raise ProtocolError unless `data` is UTF-8 and nested at most `max_depth` deep. Syntax is left to the decoder."""
    if not data.isascii():
        _check_utf8(data)
    size = len(data)
    # `replace` finds a rare byte several times faster than `count` does; most messages hold few brackets and end here.
    if (
        size > 2 * max_depth
        and 2 * size - len(data.replace(b"[", b"")) - len(data.replace(b"{", b"")) > max_depth
        and is_deeper(data, max_depth)
    ):
        raise ProtocolError("JSON is nested too deeply")


def decode_json(decode: Callable[[bytes], _T], data: bytes, max_depth: int = MAX_DEPTH) -> _T:
    """`decode(data)`, a msgspec decoder's method, on checked JSON; every fault of the data is a ProtocolError."""
    check_json(data, max_depth)
    try:
        return decode(data)
    except msgspec.ValidationError:
        raise ProtocolError("JSON is not of the shape that the protocol asks for") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ProtocolError("JSON is malformed") from None


def is_deeper(data: bytes, max_depth: int) -> bool:
    """Whether the nesting exceeds `max_depth`: exact for well-formed JSON, in constant stack and linear time.

    Malformed JSON may be called deep, but none that a parser would follow below the limit is called shallow.
    """
    if b"\\" in data:  # escape pairs go first, so that every quote left begins or ends a string
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(data.split(b'"')[::2]).translate(_ROUND, _NO_BRACKETS)
    for _ in range(max_depth):  # each pass takes the innermost level off every branch
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("text is not UTF-8", close_code=1007) from None
