"""Fuzz target 12: rows of the journal.

.venv/bin/python -m fuzz.journal_row [-max_total_time=60]      with atheris, if it is installed
.venv/bin/python -m fuzz.journal_row [examples]                without it: Hypothesis
"""

from __future__ import annotations

import zlib

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from smart_router.brokers.rows import CorruptRow, decode_head, decode_row, encode_row
from smart_router.message import Message

__all__ = ["INPUTS", "one_input"]

_ROW = encode_row(7, "ui/1/a", Message("m", "ui/1/b", 1, "t", b"{}", (b"x",), 4, 9, "key", "own"))
_MUTATED = st.tuples(st.integers(0, len(_ROW) - 1), st.integers(0, 255), st.integers(0, len(_ROW))).map(
    lambda cut: (_ROW[: cut[0]] + bytes([cut[1]]) + _ROW[cut[0] + 1 :])[: cut[2]]
)
INPUTS = st.binary(max_size=200) | _MUTATED


def one_input(data: bytes) -> None:
    """Only CorruptRow comes out, also behind a checksum that holds; what is accepted is written back to the byte."""
    for row in (data, zlib.crc32(data[4:], 7).to_bytes(4, "little") + data[4:]):
        try:
            address, message = decode_row(7, row)
        except CorruptRow:
            continue
        head = decode_head(7, row)
        assert (head.address, head.priority, head.expires_at) == (address, message.priority, message.expires_at)
        again = decode_row(7, encode_row(7, address, message))
        assert again == (address, message)


if __name__ == "__main__":
    run(one_input, INPUTS)
