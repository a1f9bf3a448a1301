import datetime
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_methods import METHODS, Method, decode_method, encode_method
from tests.protocols.amqp_values import SHORT, TABLES

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "s": SHORT,
    "S": SHORT.map(str.encode),
    "F": TABLES,
    "t": st.booleans(),
    "B": st.integers(0, 255),
    "H": st.integers(0, 2**16 - 1),
    "I": st.integers(0, 2**32 - 1),
}


def fields_of(name: str) -> list[tuple[str, str]]:
    return [(field.rpartition(":")[0], field.rpartition(":")[2]) for field in METHODS[name][2].split()]


@st.composite
def methods(draw: st.DrawFn) -> Method:
    name = draw(st.sampled_from(sorted(METHODS)))
    return Method(name, **{field: draw(_VALUES[kind]) for field, kind in fields_of(name)})


@given(methods())
def test_what_is_encoded_is_decoded(method: Method) -> None:
    again = decode_method(encode_method(method))
    assert (again.name, again.fields) == (method.name, method.fields)


@settings(max_examples=300)
@given(methods())
def test_pamqp_reads_and_writes_the_same(method: Method) -> None:
    wire = encode_method(method)
    reference = commands.INDEX_MAPPING[int.from_bytes(wire[:4], "big")]()
    assert reference.name.replace(".", "").lower() == method.name.replace(".", "").replace("-", "")
    reference.unmarshal(wire[4:])
    assert len(reference) == len(method.fields)
    for (_, theirs), ours in zip(reference, method.fields.values(), strict=True):
        if not isinstance(ours, dict):
            assert theirs == (ours.decode() if isinstance(ours, bytes) else ours)


def test_by_hand() -> None:
    method = Method("queue.declare", queue="q", durable=True, auto_delete=True, arguments={"x-max-length": 5})
    assert encode_method(method) == (
        b"\x00\x32\x00\x0a\x00\x00\x01q\x0a\x00\x00\x00\x16\x0cx-max-lengthl" + (5).to_bytes(8, "big")
    )
    assert encode_method(Method("basic.qos", count=9)) == b"\x00\x3c\x00\x0a\x00\x00\x00\x00\x00\x09\x00"
    assert decode_method(b"\x00\x14\x00\x28\x01\x94\x02no\x00\x32\x00\x0a").fields == {
        "code": 404,
        "text": "no",
        "class_id": 50,
        "method_id": 10,
    }


def test_the_text_of_a_method_holds_no_values() -> None:
    assert repr(Method("connection.start-ok", response=b"\0me\0secret")) == "Method(connection.start-ok)"


@pytest.mark.parametrize(
    "method",
    [
        Method("queue.purge", queue="x" * 256),
        Method("basic.qos", count=65536),
        Method("basic.qos", count=-1),
        Method("queue.purge", quue="x"),
        Method("queue.bind", arguments={"when": datetime.timedelta(1)}),
    ],
)
def test_what_does_not_fit_is_the_callers_fault(method: Method) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_method(method)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x00\x32",
        b"\x00\x32\x00\x63",
        b"\x00\x32\x00\x0b\x05q",
        b"\x00\x32\x00\x0b\x01q\x00\x00\x00\x01",
        b"\x00\x3c\x00\x0b\x00",
        b"\x00\x0a\x00\x3c\x01\xff",
        b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x00\x00\x00",
    ],
)
def test_broken(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_method(wire)


@settings(max_examples=500)
@given(st.binary(max_size=40), methods(), st.data())
def test_arbitrary_and_mutated_bytes_raise_only_protocol_errors(
    noise: bytes, method: Method, data: st.DataObject
) -> None:
    wire = bytearray(encode_method(method))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    for attempt in (wire[:4] + noise, bytes(wire), bytes(wire[: data.draw(st.integers(0, len(wire)))])):
        with suppress(ProtocolError):
            decode_method(bytes(attempt))
