"""Reading a damaged journal without SQLite: every row whose checksum holds, wherever it stands in the file or its log.

Format: https://www.sqlite.org/fileformat2.html (1.6 B-tree pages, 1.7 overflow, 2.1 records, 4 the write-ahead log).
Rows that had been deleted lately may stand there still and come back: twice is better than never.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from smart_router.brokers.rows import CorruptRow, decode_head

__all__ = ["frames_in_log", "readable_rows"]

_PAGE: Final = 4096
_LEAF: Final = 0x0D
_LOG_HEAD: Final = 32
_FRAME_HEAD: Final = 24
_MAX_LOCAL: Final = _PAGE - 35
_MIN_LOCAL: Final = (_PAGE - 12) * 32 // 255 - 23


def frames_in_log(path: Path) -> int | None:
    """Frames up to the last commit that the log says it has; None when its head is damaged. No log: 0.

    The last frame of all may be half written when the process was killed: it counts when its checksum holds only.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= _LOG_HEAD:
        return 0
    with log.open("rb") as file:
        head = file.read(_LOG_HEAD)
        magic, _, page_size = struct.unpack_from(">III", head)
        order = ">" if magic & 1 else "<"
        if magic & ~1 != 0x377F0682 or page_size != _PAGE or _checksum(head[:24], (0, 0), order) != _sums(head, 24):
            return None
        salts, commits, before = head[16:24], [0], _sums(head, 24)
        number, final, last, previous = 0, 0, b"", before
        while len(frame := file.read(_FRAME_HEAD + _PAGE)) >= _FRAME_HEAD:
            number += 1
            if frame[8:16] == salts:  # others are left from before the log began anew
                final, last, previous = number, frame, before
                if frame[4:8] != bytes(4):
                    commits.append(number)
            before = _sums(frame, 16)
        if final and commits[-1] == final:
            whole = len(last) == _FRAME_HEAD + _PAGE
            if not whole or _checksum(last[:8] + last[_FRAME_HEAD:], previous, order) != _sums(last, 16):
                commits.pop()
        return commits[-1]


def _sums(data: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(">II", data, at)
    return first, second


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """Section 4.2, going on from `sums`."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def readable_rows(path: Path) -> dict[int, bytes]:
    """All rows of a damaged journal whose checksum holds, by number."""
    pages = _Pages(path)
    found: dict[int, bytes] = {}
    for page in pages:
        if page[0] == _LEAF:
            found.update(_rows_of(page, pages))
    return dict(sorted(found.items()))


class _Pages:
    """The pages of the file, then those in its log, whatever the log's head says of them."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        log = path.with_name(path.name + "-wal")
        self._log = log.read_bytes() if log.exists() else b""
        self.size = len(self._data) + len(self._log)
        self._in_log: dict[int, int] = {}
        for start in range(_LOG_HEAD, len(self._log) - _FRAME_HEAD, _FRAME_HEAD + _PAGE):
            self._in_log[int.from_bytes(self._log[start : start + 4], "big")] = start + _FRAME_HEAD

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), _PAGE):
            yield self._data[start : start + _PAGE].ljust(_PAGE, b"\0")
        for start in range(_LOG_HEAD + _FRAME_HEAD, len(self._log), _FRAME_HEAD + _PAGE):
            yield self._log[start : start + _PAGE].ljust(_PAGE, b"\0")

    def versions(self, number: int) -> Iterator[bytes]:
        """The page as the log has it last, then as the file has it."""
        if number in self._in_log:
            start = self._in_log[number]
            yield self._log[start : start + _PAGE]
        yield self._data[(number - 1) * _PAGE : number * _PAGE]


def _rows_of(page: bytes, pages: _Pages) -> Iterator[tuple[int, bytes]]:
    cells = int.from_bytes(page[3:5], "big")
    for index in range(min(cells, (_PAGE - 8) // 2)):
        start = int.from_bytes(page[8 + 2 * index : 10 + 2 * index], "big")
        for latest in (0, 1):
            try:
                seq, data = _cell(page, start, pages, latest)
                decode_head(seq, data)
            except (IndexError, ValueError, CorruptRow):
                continue
            yield seq, data
            break


def _cell(page: bytes, at: int, pages: _Pages, version: int) -> tuple[int, bytes]:
    """(rowid, the blob) of a leaf cell; `version` of its overflow pages. IndexError, ValueError: it is none of ours."""
    size, at = _varint(page, at)
    seq, at = _varint(page, at)
    if size > pages.size:
        raise ValueError("larger than the file")
    local = size
    if size > _MAX_LOCAL:
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % (_PAGE - 4)
        local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    payload = bytearray(page[at : at + local])
    following = int.from_bytes(page[at + local : at + local + 4], "big") if local < size else 0
    while following and len(payload) < size:
        found = list(pages.versions(following))
        overflow = found[min(version, len(found) - 1)]
        payload += overflow[4 : 4 + size - len(payload)]
        following = int.from_bytes(overflow[:4], "big") if len(overflow) == _PAGE else 0
    head, position = _varint(payload, 0)
    _, position = _varint(payload, position)
    kind, position = _varint(payload, position)
    if kind < 12 or kind % 2 or position != head:
        raise ValueError("not a blob")
    return seq, bytes(payload[head : head + (kind - 12) // 2])


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
