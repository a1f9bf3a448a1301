from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ProtocolError
from smart_router.protocols.socketio import BinaryAssembler, Limits, decode_packet, take_attachments
from smart_router.protocols.socketio_binary import check_placeholders

GOOD = [
    b'[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
    b'[{"num":1,"_placeholder":true}]',
    b'[{ "_placeholder" :\n true , "num" : 1 }]',
    b'["{\\"_placeholder\\":true,\\"num\\":9}"]',
    b'[{"_placeholder":false,"num":9},{"_placeholder":1,"num":9},{"num":9}]',
    b'["_placeholder",{"a":"_placeholder"}]',
    b'["\\u0041",1e400,{"a":[[]]}]',
]
BAD = [
    b'[{"_placeholder":true,"num":2}]',
    b'[{"_placeholder":true,"num":-1}]',
    b'[{"_placeholder":true,"num":0.5}]',
    b'[{"_placeholder":true,"num":1e0}]',
    b'[{"_placeholder":true,"num":00}]',
    b'[{"_placeholder":true,"num":' + b"9" * 5000 + b"}]",
    b'[{"_placeholder":true,"num":"0"}]',
    b'[{"_placeholder":true,"num":null}]',
    b'[{"_placeholder":true,"num":{}}]',
    b'[{"_placeholder":true,"num":[0]}]',
    b'[{"_placeholder":true,"num":"length"}]',
    b'[{"_placeholder":true}]',
    b'[{"_placeholder":true,"num":0,"x":1}]',
    b'[{"_placeholder":true,"num":0,"num":7}]',
    b'[{"\\u005fplaceholder":true,"num":0}]',
    b'[{"a":{"_placeholder":true,"num":0},"a":{"x":{"_placeholder":true,"num":"0"}}}]',
]


@pytest.mark.parametrize("data", GOOD)
def test_placeholders_that_fit_are_accepted(data: bytes) -> None:
    check_placeholders(data, 2, 64)


@pytest.mark.parametrize("data", BAD)
def test_other_placeholders_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_placeholders(data, 2, 64)


MALFORMED = [b'["' + b'\\"' * 500_000, b'["\xff"]', b"{}", b"[" * 70 + b"]" * 70, b'[{"_placeholder":true,"num":0}']


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_json_is_refused_before_it_is_searched(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_placeholders(data, 2, 64)


def assembler(text: bytes, **limits: int) -> BinaryAssembler:
    return BinaryAssembler(decode_packet(text), Limits(**limits))


def test_a_packet_is_complete_with_its_last_attachment() -> None:
    parts = assembler(b'452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    assert parts.add(b"one") is None
    packet = parts.add(b"")
    assert packet is not None
    assert packet.frames == (b"one", b"")


def test_attachments_are_counted_with_their_text() -> None:
    text = b'452-["a",1]'
    room = len(b'["a",1]') + 10
    assert assembler(text, message_bytes=room).add(b"x" * 10) is None
    with pytest.raises(ProtocolError, match="too large") as caught:
        assembler(text, message_bytes=room).add(b"x" * 11)
    assert caught.value.close_code == 1009


def test_a_piece_takes_its_attachments_along_numbered_anew() -> None:
    piece = b'{"b":{"num":2,"_placeholder":true},"s":"{\\"num\\":1}","a":[{"_placeholder":true, "num":0}]}'
    again = b',{"_placeholder":true,"num":2}'
    assert take_attachments(b"[" + piece + again + b"]", [b"zero", b"one", b"two"]) == (
        b'[{"b":{"_placeholder":true,"num":0},"s":"{\\"num\\":1}","a":[{"_placeholder":true,"num":1}]}'
        b',{"_placeholder":true,"num":0}]',
        [b"two", b"zero"],
    )
    assert take_attachments(b'{"a":1}', [b"zero"]) == (b'{"a":1}', [])


VALUES = st.recursive(
    st.integers() | st.text('"\\{}_num:', max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\a', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=3))
def test_attachments_stay_where_they_were(value: Any) -> None:
    frames: list[bytes] = []

    def take(item: object) -> object:
        if not isinstance(item, bytes):
            raise TypeError
        frames.insert(0, item)  # numbered from the back: every one has to be renumbered
        return {"_placeholder": True, "num": -len(frames)}

    numbered = json.dumps(value, default=take)
    for back in range(len(frames), 0, -1):
        numbered = numbered.replace(f'"num": -{back}}}', f'"num": {len(frames) - back}}}')
    check_placeholders(numbered.encode(), len(frames), 64)
    renumbered, taken = take_attachments(numbered.encode(), frames)
    assert taken == frames[::-1]
    assert put_back(json.loads(renumbered), taken) == value


def put_back(value: Any, frames: list[bytes]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return frames[value["num"]]
        return {key: put_back(inner, frames) for key, inner in value.items()}
    return [put_back(inner, frames) for inner in value] if isinstance(value, list) else value
