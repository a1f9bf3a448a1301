import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from smart_router.protocols.amqp import MIN_FRAME, PROTOCOL_HEADER, Encoder, FrameError, encode_heartbeat
from smart_router.protocols.amqp_methods import Method
from smart_router.protocols.amqp_properties import Properties, encode_properties

NAMES = st.text("abcdefghijklmnopqrstuvwxyz/.-0", max_size=30)
TAGS = st.integers(0, 2**63 - 1)


def unmarshal(data: bytes) -> list[tuple[int, object]]:
    found: list[tuple[int, object]] = []
    while data:
        size, channel, one = frame.unmarshal(data)
        found.append((channel, one))
        data = data[size:]
    return found


@given(
    st.integers(1, 65535),
    st.tuples(NAMES, NAMES),
    st.sampled_from([Properties(), Properties(2, "id", "talk", {"from": "ui/1/a"}, priority=4)]).map(encode_properties),
    st.integers(0, 3 * MIN_FRAME),
    st.booleans(),
)
def test_pamqp_reads_what_is_published(
    number: int, names: tuple[str, str], properties: bytes, size: int, mandatory: bool
) -> None:
    exchange, routing_key = names
    body = bytes(i % 251 for i in range(size))
    encoder = Encoder(number, MIN_FRAME)
    frames = unmarshal(encoder.publish(exchange.encode(), routing_key.encode(), properties, body, mandatory))
    assert {channel for channel, _ in frames} == {number}
    method, header, *bodies = (one for _, one in frames)
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory, method.immediate) == (*names, mandatory, False)
    assert isinstance(header, ContentHeader)
    assert header.body_size == size
    pieces = [one.value or b"" for one in bodies if isinstance(one, ContentBody)]
    assert b"".join(pieces) == body
    assert all(0 < len(piece) <= MIN_FRAME - 8 for piece in pieces)


def test_the_properties_are_written_as_they_are() -> None:
    properties = encode_properties(Properties(priority=3, headers={"a": 1}))
    data = Encoder(1).publish(b"", b"q", properties, b"", False)
    assert data.endswith(struct.pack(">HHQ", 60, 0, 0) + properties + b"\xce")


@given(TAGS, st.booleans(), st.booleans())
def test_pamqp_reads_the_answers_to_deliveries(tag: int, multiple: bool, requeue: bool) -> None:
    encoder = Encoder(7)
    assert encoder.ack(tag, multiple) == frame.marshal(commands.Basic.Ack(tag, multiple), 7)
    assert encoder.nack(tag, multiple, requeue) == frame.marshal(commands.Basic.Nack(tag, multiple, requeue), 7)
    assert encoder.reject(tag, requeue) == frame.marshal(commands.Basic.Reject(tag, requeue), 7)


def test_fixed_frames() -> None:
    assert PROTOCOL_HEADER == b"AMQP\x00\x00\x09\x01"
    assert encode_heartbeat() == b"\x08\x00\x00\x00\x00\x00\x00\xce"
    assert Encoder(9).method(Method("channel.close-ok")) == frame.marshal(commands.Channel.CloseOk(), 9)


def test_limits_are_the_callers_fault() -> None:
    encoder = Encoder(1, MIN_FRAME)
    long = b"x" * 256
    for exchange, key, properties in ((long, b"", b"\0\0"), (b"", long, b"\0\0"), (b"", b"", bytes(MIN_FRAME))):
        with pytest.raises(ValueError, match="at most"):
            encoder.publish(exchange, key, properties, b"", False)
    with pytest.raises(ValueError, match="fit a frame"):
        encoder.method(Method("queue.declare", queue="q", arguments={"x": "y" * MIN_FRAME}))
    assert encoder.publish(b"x" * 255, b"x" * 255, bytes(MIN_FRAME - 20), b"", False)


def test_a_frame_error_says_amqp_once() -> None:
    assert FrameError(501, "AMQP: no").message == FrameError(501, "no").message == "AMQP: no"
