from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smart_router.client.dedup import Key, Seen


def test_the_key_is_the_senders_own_if_there_is_one() -> None:
    assert Key.of("a", "k", "talk", "m1") == Key.of("a", "k", "talk", "m2")
    assert Key.of("a", "k", "talk", "m1") != Key.of("b", "k", "talk", "m1")
    assert Key.of("a", "k", "talk", "m1") != Key.of("a", "k", "log", "m1")
    assert Key.of("a", "k", "talk", "m1") != Key.of("a", "k", "talk", "m1.1")
    assert Key.of("a", None, "talk", "m1") != Key.of("a", None, "talk", "m2")
    assert Key.of("a", "m1", "talk", "m2") != Key.of("a", None, "talk", "m1")


@given(st.lists(st.integers(0, 20), max_size=100), st.integers(1, 10))
def test_remembers_the_last_and_no_more(numbers: list[int], limit: int) -> None:
    seen = Seen(limit)
    model: list[int] = []
    for number in numbers:
        seen.add(Key.of("a", None, "t", str(number)))
        model = [*(other for other in model if other != number), number][-limit:]
        assert len(seen) == len(model)
    assert all((Key.of("a", None, "t", str(number)) in seen) == (number in model) for number in range(21))
