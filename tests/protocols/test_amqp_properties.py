from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_properties import PERSISTENT, Properties, decode_properties, encode_properties
from tests.protocols.amqp_values import PROPERTIES

_FIELDS = Properties.__struct_fields__


def test_what_a_durable_message_carries() -> None:
    properties = Properties(PERSISTENT, "id-1", "talk", {"from": "ui/1/b"}, 1_700_000_000, 4, "60000")
    wire = encode_properties(properties)
    assert wire == (
        b"\x39\xe0"
        + b"\x00\x00\x00\x10\x04fromS\x00\x00\x00\x06ui/1/b"
        + b"\x02"
        + b"\x04"
        + b"\x0560000"
        + b"\x04id-1"
        + b"\x00\x00\x00\x00\x65\x53\xf1\x00"
        + b"\x04talk"
    )
    assert decode_properties(wire) == properties
    assert encode_properties(Properties()) == b"\x00\x00"


@given(PROPERTIES)
def test_what_is_encoded_is_decoded(properties: Properties) -> None:
    assert decode_properties(encode_properties(properties)) == properties


@given(PROPERTIES)
def test_pamqp_reads_what_we_write(properties: Properties) -> None:
    properties.timestamp = None  # a datetime there
    wire = encode_properties(properties)
    reference = commands.Basic.Properties()
    reference.unmarshal(int.from_bytes(wire[:2], "big"), wire[2:])
    for field in _FIELDS:
        if field not in ("headers", "timestamp"):
            assert getattr(reference, _theirs(field)) == getattr(properties, field)


@given(PROPERTIES)
def test_we_read_what_pamqp_writes(properties: Properties) -> None:
    reference = commands.Basic.Properties()
    texts = {field: value for field in _FIELDS if isinstance(value := getattr(properties, field), str) and value}
    for field, value in texts.items():
        setattr(reference, _theirs(field), value)
    reference.priority = properties.priority
    read = decode_properties(reference.marshal())
    assert {field: getattr(read, field) for field in texts} == texts
    assert read.priority == properties.priority


def _theirs(field: str) -> str:
    return "message_type" if field == "type" else field


def test_a_cluster_id_is_skipped() -> None:
    assert decode_properties(b"\x00\x0c\x03app\x01c") == Properties(app_id="app")


@pytest.mark.parametrize(
    "wire", [b"", b"\x00", b"\x00\x01", b"\x00\x02", b"\x10\x00", b"\x00\x80\x05abc", b"\x00\x40\x00", b"\x00\x00x"]
)
def test_broken(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_properties(wire)


@pytest.mark.parametrize(
    "properties",
    [
        Properties(priority=256),
        Properties(delivery_mode=-1),
        Properties(message_id="x" * 256),
        Properties(timestamp=-1),
    ],
)
def test_what_does_not_fit_is_the_callers_fault(properties: Properties) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_properties(properties)


@settings(max_examples=500)
@given(st.binary(max_size=60), PROPERTIES, st.data())
def test_arbitrary_and_mutated_bytes_raise_only_protocol_errors(
    noise: bytes, properties: Properties, data: st.DataObject
) -> None:
    wire: Any = bytearray(encode_properties(properties))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    for attempt in (noise, bytes(wire), bytes(wire[: data.draw(st.integers(0, len(wire)))])):
        with suppress(ProtocolError):
            decode_properties(attempt)
