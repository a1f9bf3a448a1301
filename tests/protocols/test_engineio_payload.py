from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ProtocolError
from smart_router.protocols.engineio_payload import Packet, decode_payload, encode_payload, encoded_size

TEXT_PACKETS = st.builds(
    lambda kind, data: Packet(kind.encode() + data.replace(b"\x1e", b"")), st.sampled_from("0123456"), st.binary()
)
PACKETS = st.lists(TEXT_PACKETS | st.builds(Packet, st.binary(), st.just(True)), min_size=1, max_size=20)


@given(PACKETS)
def test_what_was_encoded_is_decoded(packets: list[Packet]) -> None:
    body = encode_payload(packets)
    assert decode_payload(body) == packets
    assert sum(map(encoded_size, packets)) == len(body) + 1


@given(st.binary(max_size=100) | st.text("b0123456AQ=\x1e", max_size=60).map(str.encode))
def test_any_body_is_decoded_to_what_encodes_to_it_or_refused(body: bytes) -> None:
    try:
        packets = decode_payload(body)
    except ProtocolError:
        return
    assert encode_payload(packets) == body


def test_packets_of_a_body_keep_their_order_and_kind() -> None:
    assert decode_payload(b"4hello\x1e2\x1ebAQIDBA==\x1eb") == [
        Packet(b"4hello"),
        Packet(b"2"),
        Packet(b"\1\2\3\4", True),
        Packet(b"", True),
    ]


BAD = [
    b"",
    b"abc",
    b"7",
    b"4a\x1e",
    b"\x1e4a",
    b"bA",
    b"b=",
    b"b!!!!",
    b"bAQ",
    b"bAQ==x",
    b"bAR==",
    b"\xff",
    "é".encode(),
    b"B",
]


@pytest.mark.parametrize("body", BAD)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_payload(body)


def test_the_number_of_packets_is_limited() -> None:
    assert len(decode_payload(b"\x1e".join([b"4"] * 1024))) == 1024
    with pytest.raises(ProtocolError, match="too many packets"):
        decode_payload(b"\x1e".join([b"4"] * 1025))
    with pytest.raises(ProtocolError, match="too many packets"):
        decode_payload(b"\x1e" * 1_000_000)
