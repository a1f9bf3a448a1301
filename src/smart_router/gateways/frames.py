"""What a server writes of RFC 6455, and what it checks of a close frame (sections 5.2, 5.5.1, 7.4). No I/O."""

from __future__ import annotations

from typing import Final

from smart_router.errors import ProtocolError

__all__ = [
    "BINARY",
    "CLOSE",
    "NO_CODE",
    "PING",
    "PONG",
    "TEXT",
    "close_payload",
    "head",
    "parse_close",
    "valid_close_code",
]

TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A

NO_CODE: Final = 1005  # "the peer gave none"; never on the wire
_RESERVED: Final = frozenset((1004, 1005, 1006))


def head(first: int, size: int) -> bytes:
    """The head of an unmasked frame; `first` is FIN and opcode in one byte."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def valid_close_code(code: int) -> bool:
    """May this code stand in a close frame (section 7.4; 1012 to 1014 from the IANA registry)?"""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in _RESERVED)


def close_payload(code: int, reason: str) -> bytes:
    """Code and reason, the reason cut to 123 bytes at a character's end."""
    text = reason.encode("utf-8", "replace")
    if len(text) > 123:
        text = text[:123].decode("utf-8", "ignore").encode()
    return code.to_bytes(2, "big") + text


def parse_close(payload: bytes) -> tuple[int, str]:
    """(code, reason) of a close frame's payload; ProtocolError with the close code to answer if it is not valid."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not valid_close_code(code):
        raise ProtocolError("invalid close code")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("close reason is not UTF-8", close_code=1007) from error
