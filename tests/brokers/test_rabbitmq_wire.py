"""Messages on RabbitMQ's wire: what we write we read, and nothing that others write hurts (A8, fuzz target 8)."""

from hypothesis import given
from hypothesis import strategies as st

from smart_router.amqp import Properties, decode_properties, encode_properties
from smart_router.brokers.rabbitmq_wire import death_of, decode, encode, encode_token
from smart_router.message import Message

text = st.text(max_size=300)
message = st.builds(
    Message,
    id=text,
    sender=text,
    at=st.integers(0, 2**53),
    type=text,
    body=st.binary(max_size=200),
    attachments=st.lists(st.binary(max_size=50), max_size=4).map(tuple),
    priority=st.integers(0, 9),
    expires_at=st.integers(0, 2**53),
    supersede=st.none() | text,
    key=st.none() | text,
)


def body_of(message: Message) -> bytes:
    return b"".join((message.body, *message.attachments))


@given(message, st.booleans(), st.integers(0, 2**31), text, st.booleans())
def test_a_message_comes_back_as_it_was(
    message: Message, durable: bool, ttl: int, address: str, repeated: bool
) -> None:
    properties = encode(message, durable, ttl, address=address, repeated=repeated)
    arrival = decode(properties, body_of(message))
    assert arrival is not None
    assert arrival.message == message
    assert (arrival.meta.address, arrival.meta.repeated, arrival.meta.lane) == (address, repeated, -1)
    shown = decode_properties(properties)
    assert shown.delivery_mode == 1 + durable
    assert shown.expiration == (str(ttl) if ttl else None)
    assert shown.timestamp == message.at // 1000


@given(message)
def test_headers_that_rabbitmq_adds_hide_nothing(message: Message) -> None:
    shown = decode_properties(encode(message, True, 0))
    added = {"x-first-death-reason": "maxlen", **(shown.headers or {}), "x-delivery-count": 2}
    properties = encode_properties(Properties(delivery_mode=2, headers=added))
    arrival = decode(properties, body_of(message))
    assert arrival is not None
    assert arrival.message == message
    assert death_of(properties) == "maxlen"


def test_a_token_is_no_message() -> None:
    arrival = decode(encode_token(8, True, 1000, ""), b"")
    assert arrival is not None
    assert arrival.meta.lane == 8


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_any_bytes_are_foreign_or_a_message(properties: bytes, body: bytes) -> None:
    decode(properties, body)
    death_of(properties)


@given(message, st.data())
def test_damaged_ones_too(message: Message, data: st.DataObject) -> None:
    properties = bytearray(encode(message, True, 0))
    place = data.draw(st.integers(0, len(properties) - 1))
    properties[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(properties)))
    decode(bytes(properties), body_of(message))
    decode(bytes(properties[:cut]), body_of(message)[:10])
