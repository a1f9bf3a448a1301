from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ProtocolError
from smart_router.protocols.json_limits import check_json, decode_json, is_deeper

decode_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\aé', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\aé', max_size=4), inner, max_size=4),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 8))
def test_depth_is_that_of_the_value(value: object, limit: int) -> None:
    assert is_deeper(json.dumps(value).encode(), limit) == (depth_of(value) > limit)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_the_limit_is_exact(opening: bytes) -> None:
    def nested(depth: int) -> bytes:
        inner = b"1" if opening != b"[" else b""
        return opening * depth + inner + (b"]" if opening == b"[" else b"}") * depth

    check_json(nested(64))
    with pytest.raises(ProtocolError, match="nested too deeply"):
        check_json(nested(65))


def test_many_brackets_side_by_side_are_fine() -> None:
    check_json(b"[" + b",".join([b'[{"a":"[[[{{{\\"[[["}]'] * 10_000) + b"]")


@pytest.mark.parametrize("data", [b"[" * 1_000_000, b'{"a":' * 200_000, b"[" * 100_000 + b"]" * 100_000])
def test_a_hostile_depth_costs_no_stack(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_json(decode_raw, data)


REFUSED = [
    *(b"nan", b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"1e", b"-", b"+1", b"0x1", b"tru", b"'a'"),
    *(b'"\\x"', b'"\\u12"', b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\x01"', b'"\n"', b'"\x1e"', b'"a'),
    *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'{"\xff":1}', b'{"\\x":1}', b"{a:1}", b'{"a":1,}', b"[1,]"),
    *(b"1]x", b"1]\0", b"\x0b1", b"1,", b"{1:1}", b'{"a"}', b"1 2", b"//", b"1]]"),
]


@pytest.mark.parametrize("value", REFUSED)
def test_what_a_recipient_could_not_read_is_refused_even_where_it_is_skipped(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_json(decode_raw, b"[" + value + b"]")


KEPT = [
    *(b"9007199254740993", b"123456789012345678901234567890", b"-0", b"1e400", b"1" * 5000, b'"\x7f"'),
    *(b'{"a":1,"a":2}', b'{"__proto__":1}', b'"\\ud83d\\ude00"', b'"\\u0000"', "é😀".encode().join((b'"', b'"'))),
]


@pytest.mark.parametrize("value", KEPT)
def test_the_rest_is_kept_to_the_byte(value: bytes) -> None:
    assert list(map(bytes, decode_json(decode_raw, b"[" + value + b"]"))) == [value]


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        values = decode_json(decode_raw, data)
    except ProtocolError:
        return
    for value in values:
        json.loads(bytes(value))
