from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ProtocolError
from smart_router.protocols.socketio import (
    Limits,
    Packet,
    acknowledgement_prefix,
    decode_acknowledgement,
    decode_connect,
    decode_event,
    decode_packet,
    encode_acknowledgement,
    encode_connect,
    encode_connect_error,
    encode_disconnect,
    encode_event,
    encode_packet,
    event_prefix,
)
from tests.protocols.socketio_packets import read_packet, some_packet, validate

ACCEPTED = [
    (b"40", Packet(0, "/", b"")),
    (b'40{"token":"123"}', Packet(0, "/", b'{"token":"123"}')),
    (b"40/custom,", Packet(0, "/custom", b"")),
    (b'40/custom,{"a":1}', Packet(0, "/custom", b'{"a":1}')),
    (b"41", Packet(1, "/", b"")),
    (b"41/custom,", Packet(1, "/custom", b"")),
    (b'42["talk",1]', Packet(2, "/", b'["talk",1]')),
    (b'42456["talk"]', Packet(2, "/", b'["talk"]', 456)),
    (b'420["talk"]', Packet(2, "/", b'["talk"]', 0)),
    (b'42/custom,["talk"]', Packet(2, "/custom", b'["talk"]')),
    (b'42/custom,7["talk"]', Packet(2, "/custom", b'["talk"]', 7)),
    (b'42/a[b],7["talk"]', Packet(2, "/a[b]", b'["talk"]', 7)),
    (b'42/a,b["talk"]', None),
    ("42/é,[1]".encode(), Packet(2, "/é", b"[1]")),
    (b"42/a/b?c=d,[]", Packet(2, "/a/b?c=d", b"[]")),
    (b'43456["bar"]', Packet(3, "/", b'["bar"]', 456)),
    (b"439007199254740992[]", Packet(3, "/", b"[]", 2**53)),
    (b'44{"message":"no"}', Packet(4, "/", b'{"message":"no"}')),
    (b'44"no"', Packet(4, "/", b'"no"')),
    (b'451-["a",{"_placeholder":true,"num":0}]', Packet(5, "/", b'["a",{"_placeholder":true,"num":0}]', None, 1)),
    (b"4610-/a,789[]", Packet(6, "/a", b"[]", 789, 10)),
]


@pytest.mark.parametrize(("frame", "packet"), ACCEPTED)
def test_packets_are_read(frame: bytes, packet: Packet | None) -> None:
    if packet is None:
        with pytest.raises(ProtocolError):
            decode_packet(frame)
        return
    assert decode_packet(frame) == packet
    assert encode_packet(packet) == frame


def test_a_namespace_may_lack_its_comma_and_the_main_one_may_be_named() -> None:
    assert decode_packet(b"40/custom") == Packet(0, "/custom", b"")
    assert decode_packet(b"42/,[1]") == Packet(2, "/", b"[1]")


REFUSED = [
    *(b"4", b"4abc", b"47", b"4-", b"42{}", b"42abc[]", b'42"a"', b"42", b"42null", b"42/a", b"42/a,", b"42 []"),
    *(
        b"42007[]",
        b"42-1[]",
        b"421.5[]",
        b"42+1[]",
        b"42\xd9\xa1[]",
        b"429007199254740993[]",
        b"42" + b"9" * 5000 + b"[]",
    ),
    *(b"43[]", b"43{}", b"431{}", b"46[]", b"41{}", b"411", b"40null", b"40[]", b"401{}", b"44", b"441{}"),
    *(b"45[]", b"450-[]", b"4511-[]", b"451000000000-[]", b"4501-[]", b"45-[]", b"45--1[]", b"451e0-[]", b"451[]"),
    *(b"461-[]", b"421-[]", b"420-[]", b"400-{}", b"42/\xff,[]", b"42/a\x1eb,[]", b"42/\0,[]", b"40/" + b"n" * 128),
    *(b"42/" + b"n" * 128 + b",[]", b"42/" + b"n" * 1_000_000),
]


@pytest.mark.parametrize("frame", REFUSED)
def test_other_heads_are_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_packet(frame)


def test_limits_are_options() -> None:
    limits = Limits(ack_id=9, namespace_bytes=3, attachments=1)
    assert decode_packet(b"42/ab,9[]", limits).ack_id == 9
    for frame in (b"42/ab,10[]", b"42/abc,[]", b"452-[]", b"40/abc"):
        with pytest.raises(ProtocolError):
            decode_packet(frame, limits)


def test_packets_are_written_to_the_byte() -> None:
    assert encode_event("/", "auth", b"{}") == b'42["auth",{}]'
    assert encode_event("/", "empty") == b'42["empty"]'
    assert encode_event("/", 'a"\n') == b'42["a\\"\\n"]'
    assert encode_event("/custom", "a", b'1,"2",{"3":[true]}', 7) == b'42/custom,7["a",1,"2",{"3":[true]}]'
    assert encode_event("/", "a", b"1", attachments=2) == b'452-["a",1]'
    assert encode_event("/custom", "a", b"1", 0, 2) == b'452-/custom,0["a",1]'
    assert encode_acknowledgement("/", 456, b'1,"2"') == b'43456[1,"2"]'
    assert encode_acknowledgement("/custom", 789, b"", 2) == b"462-/custom,789[]"
    assert encode_connect("/", "abc") == b'40{"sid":"abc"}'
    assert encode_connect("/custom", "abc", "p") == b'40/custom,{"sid":"abc","pid":"p"}'
    assert encode_connect_error("/random", "Invalid namespace") == b'44/random,{"message":"Invalid namespace"}'
    assert encode_connect_error("/", "no", b'{"code":1}') == b'44{"message":"no","data":{"code":1}}'
    assert encode_disconnect("/custom") == b"41/custom,"
    assert event_prefix("/custom") == b"42/custom,"
    assert acknowledgement_prefix("/") == b"43"


EVENT_REFUSED = [
    *(b"[]", b"[1]", b"[null]", b"[{}]", b"[[]]", b"[true]", b'["a"', b'["a"]]', b'["a",]', b'["a"]x', b'["\\ud800"]'),
    *(b"[" * 100_000, b'["a",' + b"[" * 100_000 + b"]" * 100_000 + b"]", b'["\xff"]', b'["a",NaN]', b'["a","\xff"]'),
]
RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]


@pytest.mark.parametrize("data", EVENT_REFUSED + [b'["%b"]' % name.encode() for name in RESERVED])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_event(data)


@pytest.mark.parametrize("name", ["__proto__", "constructor", "__class__", "hasOwnProperty", "__init__", "", "Connect"])
def test_odd_names_are_only_names(name: str) -> None:
    assert decode_event(b'["%b"]' % name.encode()) == (name, [])


def test_arguments_come_as_they_were_written() -> None:
    name, arguments = decode_event(b'["a\\u0041", 1.0 , {"x": 9007199254740993}, "\\u00e9",[]]')
    assert name == "aA"
    assert list(map(bytes, arguments)) == [b"1.0", b'{"x": 9007199254740993}', b'"\\u00e9"', b"[]"]
    assert list(map(bytes, decode_acknowledgement(b"[1,2]"))) == [b"1", b"2"]
    assert decode_acknowledgement(b"[]") == []


def test_connect_data() -> None:
    assert decode_connect(b"") == (b"{}", None, None)
    assert decode_connect(b'{"token":1}') == (b'{"token":1}', None, None)
    assert decode_connect(b'{"pid":"p","offset":"o"}') == (b'{"pid":"p","offset":"o"}', "p", "o")
    assert decode_connect(b'{"pid":1,"offset":null}')[1:] == (None, None)
    for bad in (b"{", b"{}x", b'{"pid":}', b'{"a":"\xff"}', b'{"a":' * 70 + b"1" + b"}" * 70):
        with pytest.raises(ProtocolError):
            decode_connect(bad)


HEADS = st.builds(
    lambda kind, count, namespace, ack_id, data: f"4{kind}{count}{namespace}{ack_id}{data}".encode(),
    st.integers(0, 7),
    st.sampled_from(["", "", "1-", "10-", "11-"]),
    st.sampled_from(["", "/a,", "/a", "/é,"]) | st.text(max_size=5),
    st.sampled_from(["", "0", "12"]) | st.integers(0).map(str),
    st.sampled_from(["", "{}", '["a"]', '["a",1]', '["a"', "[]"]) | st.text(max_size=8),
)


@given(HEADS | st.binary(max_size=80).map(lambda data: b"4" + data))
def test_accepted_packets_are_written_back_to_the_byte(frame: bytes) -> None:
    try:
        packet = decode_packet(frame)
        validate(packet)
    except ProtocolError:
        return
    again = encode_packet(packet)
    assert decode_packet(again) == packet
    # Two spellings have no own form: a namespace that ends the packet, and the main one by its name.
    assert again == frame or frame + b"," == again or b"/," in frame or frame in (b"40/", b"41/")


@given(st.randoms(use_true_random=False))
def test_packets_near_the_edge_are_read_or_refused(chance: random.Random) -> None:
    text, frames = some_packet(chance)
    with contextlib.suppress(ProtocolError):
        read_packet(text, frames)
