"""Rows of the journal: back as they were, or CorruptRow (fuzz target 12)."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.journal_row import INPUTS, one_input
from smart_router.brokers.rows import CorruptRow, decode_row, encode_row
from smart_router.message import Message

TEXT = st.text(max_size=20)
MESSAGES = st.builds(
    Message,
    id=TEXT,
    sender=TEXT,
    at=st.integers(0, 1 << 62),
    type=TEXT,
    body=st.binary(max_size=100),
    attachments=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    priority=st.integers(0, 9),
    expires_at=st.integers(0, 1 << 62),
    supersede=st.none() | TEXT,
    key=st.none() | TEXT,
    wants=st.integers(1, 31),
    asker=st.none() | TEXT,
)
MESSAGES |= MESSAGES.map(lambda message: msgspec.structs.replace(message, wants=0, asker=None))


@given(MESSAGES, st.integers(1, 1 << 62))
def test_a_row_comes_back_as_it_was(message: Message, seq: int) -> None:
    assert decode_row(seq, encode_row(seq, "ui/1/a", message)) == ("ui/1/a", message)


@settings(max_examples=1000, deadline=None)
@given(INPUTS)
def test_any_bytes(data: bytes) -> None:
    one_input(data)


def test_a_row_in_another_place_is_damage() -> None:
    row = encode_row(7, "ui/1/a", Message("m", "ui/1/b", 1, "t", b"{}"))
    with pytest.raises(CorruptRow):
        decode_row(8, row)
