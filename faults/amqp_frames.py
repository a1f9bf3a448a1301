"""Which AMQP 0-9-1 frames pass a proxy, and the end of a connection at one of them.

    cut = CutAt("TO_SERVER Basic.Publish", "middle")
    async with Proxy(broker, prepare=cut.watch) as proxy: …

A frame (section 2.3.5 of the AMQP 0-9-1 specification) is a type, a channel, a length, so many bytes, and 0xCE.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal

from pamqp.commands import INDEX_MAPPING

from faults.proxy import Connection, Silence, Tap

__all__ = ["CutAt", "FrameReader", "Place"]

Place = Literal["before", "middle", "after"]

_PROTOCOL_HEADER = b"AMQP"
_PROTOCOL_HEADER_SIZE = 8
_FRAME_HEADER_SIZE = 7
_FRAME_END_SIZE = 1
_METHOD_ID_SIZE = 4
_KINDS = {2: "header", 3: "body", 8: "heartbeat"}
_METHOD = 1


class FrameReader:
    """One direction: bytes in, frames out, each with its name and where it begins and ends in the bytes of all time.

    Names: `Basic.Publish` and so on for methods, else `header`, `body`, `heartbeat`, `protocol-header`.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0

    def feed(self, data: bytes) -> list[tuple[str, int, int]]:
        self._buffer += data
        found = []
        while frame := self._next():
            found.append(frame)
        return found

    def _next(self) -> tuple[str, int, int] | None:
        size = self._size()
        if size is None or len(self._buffer) < size:
            return None
        frame = (_name(self._buffer), self._start, self._start + size)
        self._buffer = self._buffer[size:]
        self._start += size
        return frame

    def _size(self) -> int | None:
        if self._buffer[:4] == _PROTOCOL_HEADER:
            return _PROTOCOL_HEADER_SIZE
        if len(self._buffer) < _FRAME_HEADER_SIZE:
            return None
        return _FRAME_HEADER_SIZE + int.from_bytes(self._buffer[3:7], "big") + _FRAME_END_SIZE


class CutAt:
    """Ends one connection, the first on which the wanted frame has come `nth` times; all others are only watched.

    `wanted`: direction and name, as in `seen`; none: never. Up to its `place` the frame is let through.
    """

    def __init__(self, wanted: str | None = None, place: Place = "before", nth: int = 1) -> None:
        self._wanted = wanted
        self._place = place
        self._nth = nth
        self.seen: Counter[str] = Counter()
        """How often each frame has come, on all connections: `TO_CLIENT Connection.Start` and so on."""
        self.happened = asyncio.Event()

    def arm(self, wanted: str, place: Place) -> None:
        """Once more, at the next frame of this name."""
        self._wanted, self._place, self._nth = wanted, place, self.seen[wanted] + 1
        self.happened.clear()

    def watch(self, connection: Connection) -> None:
        connection.tap = self._tap()

    def _tap(self) -> Tap:
        readers = {Silence.TO_SERVER: FrameReader(), Silence.TO_CLIENT: FrameReader()}
        passed = dict.fromkeys(readers, 0)

        def tap(direction: Silence, data: bytes) -> int | None:
            before = passed[direction]
            passed[direction] += len(data)
            for name, start, end in readers[direction].feed(data):
                if self._is_wanted(f"{direction.name} {name}"):
                    return max(0, self._end(start, end) - before)
            return None

        return tap

    def _is_wanted(self, name: str) -> bool:
        self.seen[name] += 1
        if name != self._wanted or self.seen[name] < self._nth or self.happened.is_set():
            return False
        self.happened.set()
        return True

    def _end(self, start: int, end: int) -> int:
        return {"before": start, "middle": (start + end) // 2, "after": end}[self._place]


def _name(frame: bytes) -> str:
    if frame[:4] == _PROTOCOL_HEADER:
        return "protocol-header"
    if frame[0] != _METHOD:
        return _KINDS.get(frame[0], f"type {frame[0]}")
    method = int.from_bytes(frame[_FRAME_HEADER_SIZE : _FRAME_HEADER_SIZE + _METHOD_ID_SIZE], "big")
    known = INDEX_MAPPING.get(method)
    return str(known.__dict__["name"]) if known else f"method {method:#x}"
