"""Cursors: what was written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.api.cursors import read_cursor, write_cursor
from smart_router.errors import Refused

__all__: list[str] = []

Place = tuple[int, str, str]
OF = ("list", {"filter": "x"})


@given(st.integers(0, 2**53), st.text(max_size=300), st.text(max_size=300))
def test_a_cursor_leads_back_to_its_place(at: int, one: str, two: str) -> None:
    cursor = write_cursor(OF, (at, one, two))
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert read_cursor(cursor, OF, Place) == (at, one, two)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_what_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="begin again"):
        read_cursor(text, OF, Place)


@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_"))
def test_a_changed_one_is_refused(position: int, character: str) -> None:
    cursor = write_cursor(OF, (12345, "some id", "ui/456/alice"))
    position %= len(cursor) - 1  # of the last character some bits are not looked at
    changed = cursor[:position] + character + cursor[position + 1 :]
    if changed != cursor:
        with pytest.raises(Refused):
            read_cursor(changed, OF, Place)


@pytest.mark.parametrize("more", ["!", " ", "\n", "%00", "AAAA"])
def test_one_with_anything_added_is_refused(more: str) -> None:
    cursor = write_cursor(OF, (1, "a", "b"))
    for changed in (cursor + more, more + cursor, cursor[:5] + more + cursor[5:]):
        with pytest.raises(Refused):
            read_cursor(changed, OF, Place)


@pytest.mark.parametrize("of", [("list", {"filter": "y"}), ("other", {"filter": "x"}), ("list", {}), "list", None])
def test_one_of_another_list_is_refused(of: object) -> None:
    with pytest.raises(Refused):
        read_cursor(write_cursor(of, (1, "a", "b")), OF, Place)


def test_one_of_another_form_is_refused_and_none_is_none() -> None:
    with pytest.raises(Refused):
        read_cursor(write_cursor(OF, "text"), OF, Place)
    assert read_cursor(None, OF, Place) is None
