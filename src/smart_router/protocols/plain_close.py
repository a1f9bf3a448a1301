"""How a connection of the plain protocol ends, and whether a client comes back (docs/plain-protocol.md)."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

import msgspec

__all__ = ["MAX_DELAY", "CloseCode", "ComeBack", "come_back", "delay_of", "delay_reason"]

MAX_DELAY: Final = 3600.0


class CloseCode(IntEnum):
    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    BINARY = 1003
    NOT_UTF8 = 1007
    TOO_LARGE = 1009
    FAILED = 1011
    RESTART = 1012
    BUSY = 1013
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    NOT_IDENTIFIED = 4408
    TAKEN_OVER = 4409


class ComeBack(Enum):
    NEVER = "never"
    REAUTHORIZED = "with a new token"
    LATER = "later"


_NEVER: Final = frozenset({CloseCode.PROTOCOL_ERROR, CloseCode.BINARY, CloseCode.NOT_UTF8, CloseCode.FORBIDDEN})


class _Reason(msgspec.Struct, gc=False):
    delay: float


_decode: Final = msgspec.json.Decoder(_Reason).decode


def come_back(code: int) -> ComeBack:
    """What a client does after the server closed with `code`; a code that is not listed means: later."""
    if code in _NEVER:
        return ComeBack.NEVER
    return ComeBack.REAUTHORIZED if code == CloseCode.UNAUTHORIZED else ComeBack.LATER


def delay_reason(delay: float) -> str:
    """The reason beside RESTART: come back after `delay` seconds."""
    return f'{{"delay":{delay:.3f}}}'


def delay_of(reason: str) -> float | None:
    """The seconds in a close reason, between 0 and MAX_DELAY; None: it holds none."""
    try:
        return min(max(_decode(reason.encode()).delay, 0.0), MAX_DELAY)
    except (msgspec.MsgspecError, UnicodeError):
        return None
