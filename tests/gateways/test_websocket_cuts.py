"""How bytes are cut on their way makes no difference: fuzz target 4 of the faults page."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smart_router.errors import ProtocolError
from smart_router.gateways.fragments import is_utf8
from smart_router.gateways.frames import parse_close, valid_close_code
from tests.gateways.websocket_model import Fed, frames_of

BYTES = st.binary(max_size=64)
ROWS = st.tuples(st.sampled_from((0, 1, 2, 8, 9, 10)), BYTES, st.booleans(), st.just(0), st.just(True))
ODD = st.tuples(st.integers(0, 15), BYTES, st.booleans(), st.sampled_from((0, 0, 0, 0x40)), st.integers(0, 9).map(bool))
SOUND = st.builds(frames_of, st.lists(ROWS, max_size=8))
ANY = st.builds(frames_of, st.lists(ODD, max_size=8))


@given(data=st.one_of(SOUND, ANY, BYTES), cuts=st.lists(st.integers(0, 600), max_size=20))
@example(data=b"\x81\x85" + bytes(4) + b"hello" + b"\x88\x80" + bytes(4) + b"\xff" * 20, cuts=[7, 11, 12])
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_result_does_not_depend_on_the_cuts(data: bytes, cuts: list[int]) -> None:
    whole = Fed([data])
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = Fed([data[start:end] for start, end in itertools.pairwise(places)])
    bytewise = Fed([data[index : index + 1] for index in range(len(data))])
    assert whole.events == pieces.events == bytewise.events
    assert whole.written == pieces.written == bytewise.written


@given(st.lists(st.tuples(st.booleans(), st.text(max_size=300)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_what_is_framed_is_what_is_delivered(messages: list[tuple[bool, str]]) -> None:
    data = frames_of([(1 if text else 2, words.encode(), True, 0, True) for text, words in messages])
    expected: list[tuple[Any, ...]] = [("text" if text else "binary", words.encode()) for text, words in messages]
    assert Fed([data]).events == [("opened",), *expected]


@given(st.binary(max_size=130))
@settings(max_examples=500)
def test_a_close_payload_is_understood_or_refused(payload: bytes) -> None:
    try:
        code, reason = parse_close(payload)
    except ProtocolError:
        assert len(payload) == 1 or not valid_close_code(int.from_bytes(payload[:2], "big")) or not is_utf8(payload[2:])
    else:
        assert code == 1005 or payload == code.to_bytes(2, "big") + reason.encode()
