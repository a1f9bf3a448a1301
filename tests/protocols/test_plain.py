from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smart_router.errors import ProtocolError, Refused
from smart_router.protocols import plain
from smart_router.protocols.plain_close import MAX_DELAY, ComeBack, come_back, delay_of, delay_reason

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(0, plain.MAX_NUMBER)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
RAW = st.dictionaries(TEXT, VALUES, max_size=4).map(lambda value: msgspec.Raw(json.dumps(value).encode()))
ATTACHMENTS = st.lists(st.binary(max_size=20), max_size=plain.MAX_ATTACHMENTS).map(tuple)
POSITIVE = st.integers(1, plain.MAX_NUMBER)

CLIENT_FRAMES: st.SearchStrategy[plain.ClientFrame] = st.one_of(
    st.builds(
        plain.Identify,
        TEXT,
        st.none() | TEXT,
        st.booleans(),
        st.none() | st.builds(plain.Resume, TEXT, st.none() | TEXT),
    ),
    st.builds(plain.Send, TEXT, RAW, st.none() | NUMBERS, ATTACHMENTS),
    st.builds(plain.Ack, upto=POSITIVE),
    st.builds(plain.Ack, n=POSITIVE),
    st.builds(plain.Ack, n=POSITIVE, reply=RAW),
    st.builds(plain.Read, TEXT, st.none() | NUMBERS),
    st.builds(plain.Reply, TEXT, RAW, st.none() | NUMBERS),
    st.builds(plain.Nack, POSITIVE, TEXT),
    st.builds(plain.Refresh, TEXT, st.none() | NUMBERS),
    st.builds(plain.Ping),
)
SERVER_FRAMES: st.SearchStrategy[plain.ServerFrame] = st.one_of(
    st.builds(plain.WhoAreYou),
    st.builds(plain.WhoAreYou, TEXT, RAW, st.none() | NUMBERS),
    st.builds(plain.Hello, TEXT, TEXT, st.none() | st.floats(0, 1e6), st.none() | NUMBERS, st.none() | TEXT),
    st.builds(plain.Deliver, NUMBERS, TEXT, RAW, st.none() | TEXT, st.booleans(), ATTACHMENTS),
    st.builds(plain.Answer, NUMBERS, RAW),
    st.builds(plain.Error, TEXT, TEXT, st.booleans(), st.none() | TEXT),
    st.builds(plain.Pong),
)


@given(CLIENT_FRAMES)
def test_what_a_client_encodes_the_server_decodes(frame: plain.ClientFrame) -> None:
    assert plain.encode(plain.decode_client(plain.encode(frame))) == plain.encode(frame)


@given(SERVER_FRAMES)
def test_what_a_server_encodes_the_client_decodes(frame: plain.ServerFrame) -> None:
    decoded = plain.decode_server(plain.encode(frame))
    assert decoded is not None
    assert plain.encode(decoded) == plain.encode(frame)


@settings(max_examples=1_000)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_protocol_errors(data: bytes) -> None:
    _only_protocol_errors(data)


@settings(max_examples=1_000)
@given(CLIENT_FRAMES | SERVER_FRAMES, st.data())
def test_mutated_frames_raise_only_protocol_errors(
    frame: plain.ClientFrame | plain.ServerFrame, data: st.DataObject
) -> None:
    mutated = bytearray(plain.encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated)))
        cut = data.draw(st.integers(0, 4))
        mutated[at : at + cut] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"[", b",", b"\\ud800"])
        )
    _only_protocol_errors(bytes(mutated))


def _only_protocol_errors(data: bytes) -> None:
    for decode in (plain.decode_client, plain.decode_server):
        with contextlib.suppress(ProtocolError):
            decode(data)


def test_the_message_of_a_send_stays_the_bytes_it_was() -> None:
    message = b'{"ids" : {"a":"b"},"payload":[1.0, 1e3 ,"\\u00e9", 12345678901234567890]}'
    frame = plain.decode_client(b'{"op":"send","ref":1,"type":"talk","message": %b }' % message)
    assert isinstance(frame, plain.Send)
    assert bytes(frame.message) == message


def test_op_may_stand_anywhere() -> None:
    assert plain.decode_client(b' {"upto":3,"op":"ack"} ') == plain.Ack(upto=3)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "one JSON object"),
        (b"[]", "one JSON object"),
        (b'{"op":1}', "one JSON object"),
        (b'{"op":"secret"}', "unknown `op`"),
        (b'{"op":"deliver","n":1,"type":"t","message":{}}', "unknown `op`"),
        (b'{"op":"ping","secret":1}', "`ping` takes {}"),
        (b'{"op":"ack"}', r"{upto} or {n, reply\?}"),
        (b'{"op":"ack","n":1,"upto":1}', r"{upto} or {n, reply\?}"),
        (b'{"op":"ack","upto":-1}', r"{upto} or {n, reply\?}"),
        (b'{"op":"ack","upto":9007199254740992}', r"{upto} or {n, reply\?}"),
        (b'{"op":"ack","upto":1,"reply":null}', r"{upto} or {n, reply\?}"),
        (b'{"op":"read"}', "`read` takes {id, ref"),
        (b'{"op":"reply","to":"m"}', "`reply` takes {to, payload, ref"),
        (b'{"op":"nack","n":0}', "`nack` takes"),
        (b'{"op":"send","type":"t"}', "`send` takes"),
        (b'{"op":"send","type":"t","message":NaN}', "`send` takes|one JSON object"),
        (b'{"op":"send","type":"t","message":{},"ref":"1"}', "`send` takes"),
        (b'{"op":"send","type":"t","message":{},"attachments":["a"]}', "`send` takes"),
        (b'{"op":"send","type":"t","message":{},"attachments":%b}' % json.dumps([""] * 11).encode(), "at most 10"),
        (b'{"op":"identify","actor":"a","resume":{}}', "`identify` takes"),
        (b'{"op":"send","type":"t","message":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"op":"send","type":"t","message":"\xff"}', "UTF-8"),
    ],
)
def test_a_broken_rule_is_named_without_the_bytes(data: bytes, rule: str) -> None:
    with pytest.raises(ProtocolError, match=rule) as caught:
        plain.decode_client(data)
    assert "secret" not in caught.value.message


def test_limits_are_the_servers_settings() -> None:
    nested = b'{"op":"send","type":"t","message":' + b'{"a":' * 99 + b"1" + b"}" * 100
    assert isinstance(plain.decode_client(nested, max_depth=100), plain.Send)
    with pytest.raises(ProtocolError, match="nested"):
        plain.decode_client(nested, max_depth=99)
    attached = b'{"op":"send","type":"t","message":{},"attachments":["","",""]}'
    assert isinstance(plain.decode_client(attached, max_attachments=3), plain.Send)
    with pytest.raises(ProtocolError, match="at most 2 attachments"):
        plain.decode_client(attached, max_attachments=2)


def test_the_client_reads_what_a_server_with_a_larger_limit_lets_through() -> None:
    nested = b'{"a":' * 99 + b"1" + b"}" * 99
    frame = plain.decode_server(plain.encode_deliver(1, "t", nested))
    assert isinstance(frame, plain.Deliver)
    assert bytes(frame.message) == nested


@pytest.mark.parametrize("num", ["1", "-1", "0.5", "true", '"0"', "null"])
def test_a_placeholder_without_its_attachment_is_refused(num: str) -> None:
    frame = '{"op":"send","type":"t","attachments":["aGk="],"message":{"payload":[{"_placeholder":true,"num":%s}]}}'
    with pytest.raises(ProtocolError, match="placeholder"):
        plain.decode_client((frame % num).encode())
    accepted = plain.decode_client((frame % "0").encode())
    assert isinstance(accepted, plain.Send)
    assert accepted.attachments == (b"hi",)


def test_a_placeholder_without_any_attachment_is_plain_data() -> None:
    frame = b'{"op":"send","type":"t","message":{"payload":{"_placeholder":true,"num":5}}}'
    assert isinstance(plain.decode_client(frame), plain.Send)


def test_the_client_ignores_what_a_later_server_may_add() -> None:
    assert plain.decode_server(b'{"op":"later","x":1}') is None
    assert plain.decode_server(b'{"op":"pong","x":1}') == plain.Pong()
    with pytest.raises(ProtocolError):
        plain.decode_server(b'{"op":"answer"}')


@given(NUMBERS, TEXT, RAW, st.none() | TEXT, st.booleans(), ATTACHMENTS)
def test_the_joined_delivery_equals_the_encoded_one(
    n: int, type: str, message: msgspec.Raw, offset: str | None, ack: bool, attachments: tuple[bytes, ...]
) -> None:
    joined = plain.encode_deliver(n, type, bytes(message), offset=offset, ack=ack, attachments=attachments)
    expected = plain.encode(plain.Deliver(n, type, message, offset, ack, attachments))
    assert json.loads(joined) == json.loads(expected)


def test_answers_and_errors_have_the_words_of_the_error_tree() -> None:
    assert plain.encode_answer(7, b'{"id":"1","status":"queued"}') == (
        b'{"op":"answer","ref":7,"answer":{"id":"1","status":"queued"}}'
    )
    error = plain.decode_server(plain.encode_error(Refused("no_route", "no route", type="talk")))
    assert error == plain.Error("no_route", "no route", False, type="talk")


def test_an_event_of_socketio_becomes_a_frame() -> None:
    assert plain.encode_event("whoareyou") == plain.encode(plain.WhoAreYou())
    back = plain.decode_server(plain.encode_event("whoareyou", b'{"type":"talk","message":{"ids":{}}}'))
    assert isinstance(back, plain.WhoAreYou)
    assert (back.type, bytes(back.message or b"")) == ("talk", b'{"ids":{}}')


def test_a_nack_in_the_words_of_socketio() -> None:
    assert bytes(plain.Nack(1, "später").answer()) == '{"nack":"später"}'.encode()


def test_a_reply_and_a_mark_in_the_words_of_socketio() -> None:
    assert plain.Ack(n=1).answer() == ()
    assert plain.Ack(n=1, reply=msgspec.Raw(b"[1]")).answer() == (msgspec.Raw(b'{"reply":[1]}'),)
    assert plain.Read("m").event() == ("read", msgspec.Raw(b'{"id":"m"}'))
    assert plain.Reply("m", msgspec.Raw(b"null")).event() == ("reply", msgspec.Raw(b'{"to":"m","payload":null}'))


@pytest.mark.parametrize(
    ("offered", "choice"),
    [((), (True, None)), (("x", plain.SUBPROTOCOL), (True, plain.SUBPROTOCOL)), (("smart-router.v9",), (False, None))],
)
def test_subprotocol(offered: tuple[str, ...], choice: tuple[bool, str | None]) -> None:
    assert plain.choose_subprotocol(offered) == choice


def test_close_codes_say_whether_to_come_back() -> None:
    assert [come_back(code) for code in (1002, 1003, 1007, 4403)] == [ComeBack.NEVER] * 4
    assert [come_back(code) for code in (1000, 1006, 1009, 1011, 1012, 1013, 4408, 4409, 4999)] == [ComeBack.LATER] * 9
    assert come_back(4401) is ComeBack.REAUTHORIZED


@pytest.mark.parametrize(
    ("reason", "delay"),
    [(delay_reason(1.5), 1.5), ('{"delay":-1}', 0.0), ('{"delay":1e300}', MAX_DELAY), ("", None), ("bye", None)],
)
def test_the_delay_in_a_close_reason(reason: str, delay: float | None) -> None:
    assert delay_of(reason) == delay
    assert len(reason.encode()) <= 123
