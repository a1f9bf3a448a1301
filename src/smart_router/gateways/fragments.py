"""One WebSocket message of one or many frames: its order, its limits, its text (RFC 6455, 5.4 and 8.1). No I/O."""

from __future__ import annotations

from smart_router.errors import ProtocolError

__all__ = ["Fragments", "is_utf8"]


class Fragments:
    """Collects a message up to `limit` bytes in at most `frames` frames; over it: ProtocolError, close code 1009."""

    __slots__ = ("_frames", "_limit", "_parts", "_size", "is_text")

    def __init__(self, is_text: bool, limit: int, frames: int) -> None:
        self.is_text = is_text
        self._limit = limit
        self._frames = frames
        self._parts: list[bytes] = []
        self._size = 0

    def reserve(self, size: int) -> None:
        """Called before a frame's payload is copied."""
        self._size += size
        if self._size > self._limit:
            raise ProtocolError("message too big", close_code=1009)
        if len(self._parts) >= self._frames:
            raise ProtocolError("too many fragments", close_code=1009)

    @property
    def size(self) -> int:
        """Bytes collected."""
        return self._size

    def add(self, data: bytes) -> None:
        self._parts.append(data)

    def join(self) -> bytes:
        """The whole message; ProtocolError with 1007 if it is text and not UTF-8."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self.is_text and not is_utf8(data):
            raise ProtocolError("text is not UTF-8", close_code=1007)
        return data


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
