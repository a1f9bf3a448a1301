import struct
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import decode as reference_decode
from pamqp import encode as reference_encode

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_table import MAX_DEPTH, decode_table, encode_short, encode_table
from tests.protocols.amqp_values import TABLES


def table(*fields: bytes) -> bytes:
    data = b"".join(fields)
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"t\x00", False),
        (b"t\x01", True),
        (b"b\xff", -1),
        (b"B\xff", 255),
        (b"s\xff\xfe", -2),
        (b"u\xff\xfe", 65534),
        (b"I\xff\xff\xff\xfe", -2),
        (b"i\xff\xff\xff\xfe", 2**32 - 2),
        (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\xff" * 8, -1),
        (b"f" + struct.pack(">f", 1.5), 1.5),
        (b"d" + struct.pack(">d", 0.1), 0.1),
        (b"D\x02\x00\x00\x01\x00", Decimal("2.56")),
        (b"S\x00\x00\x00\x02hi", "hi"),
        (b"S\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
        (b"x\x00\x00\x00\x02hi", b"hi"),
        (b"A\x00\x00\x00\x03t\x01V", [True, None]),
        (b"T\x00\x00\x00\x00\x00\x00\x00\x01", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (b"F\x00\x00\x00\x03\x01kV", {"k": None}),
        (b"V", None),
    ],
)
def test_types(wire: bytes, value: object) -> None:
    """RabbitMQ's errata, section 3."""
    read = decode_table(table(b"\x01k", wire))
    assert read == {"k": value}
    assert type(read["k"]) is type(value)


@given(TABLES)
def test_what_is_encoded_is_decoded(value: dict[str, Any]) -> None:
    assert decode_table(encode_table(value)) == value


@given(TABLES)
def test_pamqp_reads_what_we_write(value: dict[str, Any]) -> None:
    assert reference_decode.field_table(encode_table(value)) == (len(encode_table(value)), _as_pamqp(value))


@given(TABLES)
def test_we_read_what_pamqp_writes(value: dict[str, Any]) -> None:
    assert decode_table(reference_encode.field_table(_as_pamqp(value))) == value


def _as_pamqp(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, dict):
        return {name: _as_pamqp(item) for name, item in value.items()}
    return [_as_pamqp(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x00\x00\x00",
        b"\x00\x00\x00\x01",
        table() + b"x",
        table(b"\x02k"),
        table(b"\x01k"),
        table(b"\x01kt"),
        table(b"\x01kZ\x00"),
        table(b"\x01kS\x00\x00\x00\x05hi"),
        table(b"\x01\xffV"),
        table(b"\x01kT" + b"\xff" * 8),
        table(b"\x01kA\x00\x00\x00\x02l\x00"),
        b"\x00\x00\x00\x02\x01kt\x00",
        b"\xff\xff\xff\xff\x01kV",
    ],
)
def test_broken(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_table(wire)


def test_depth() -> None:
    nested: Any = None
    for _ in range(MAX_DEPTH):
        nested = {"k": nested}
    assert decode_table(encode_table(nested)) == nested
    with pytest.raises(ValueError, match="nested"):
        encode_table({"k": nested})
    wire = b"V"
    for _ in range(2000):
        wire = b"F" + table(b"\x01k", wire)
    with pytest.raises(ProtocolError, match="deep"):
        decode_table(wire[1:])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, object(), Decimal(-1), Decimal("NaN"), Decimal("1e9"), 1 + 2j])
def test_values_without_a_type(value: object) -> None:
    with pytest.raises(ValueError, match="AMQP"):
        encode_table({"k": value})


def test_times_before_the_epoch_and_long_names() -> None:
    with pytest.raises(ValueError, match="1970"):
        encode_table({"k": datetime(1969, 1, 1, tzinfo=UTC)})
    with pytest.raises(ValueError, match="zone"):
        encode_table({"k": datetime(2000, 1, 1)})  # noqa: DTZ001
    with pytest.raises(ValueError, match="255"):
        encode_short("ä" * 128)
    assert encode_short("ä" * 127)[0] == 254


@settings(max_examples=500)
@given(st.binary(max_size=60), TABLES, st.data())
def test_arbitrary_and_mutated_bytes_raise_only_protocol_errors(
    noise: bytes, value: dict[str, Any], data: st.DataObject
) -> None:
    wire = bytearray(encode_table(value))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    for attempt in (noise, bytes(wire), bytes(wire[: data.draw(st.integers(0, len(wire)))])):
        with suppress(ProtocolError):
            decode_table(attempt)
