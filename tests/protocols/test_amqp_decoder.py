import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp import MIN_FRAME, FrameError
from smart_router.protocols.amqp_decoder import Decoder, Got
from smart_router.protocols.amqp_properties import Properties, encode_properties
from tests.protocols.amqp_frames import CONVERSATIONS, Recorder, content, decode, deliver, marshal

EMPTY = encode_properties(Properties())
SOME = encode_properties(Properties(delivery_mode=2, message_id="m", headers={"n": 1}))
DELIVER = commands.Basic.Deliver("1", 5, True, "e", "k")


def test_a_delivery_in_one_piece() -> None:
    assert decode(deliver(9, SOME, b"body")) == [
        (1, "deliver", 9, False, b"agent", b"agent/456/alice", SOME, b"body"),
    ]


def test_what_is_for_no_consumer_is_stray() -> None:
    assert [told[1] for told in decode(deliver(9, SOME, b"body", consumer="gone"))] == ["stray"]


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 25])
def test_bodies_of_any_number_of_frames(size: int) -> None:
    data = bytes(range(size))
    frames = [marshal(DELIVER), *content(SOME, data, largest=10)]
    assert decode(b"".join(frames)) == [(1, "deliver", 5, True, b"e", b"k", SOME, data)]


def test_confirms_returns_and_what_get_took() -> None:
    wire = b"".join(
        (
            marshal(commands.Basic.Ack(3, True)),
            marshal(commands.Basic.Nack(4, False, False)),
            marshal(commands.Basic.Return(312, "NO_ROUTE", "e", "k")),
            *content(EMPTY, b"back"),
            marshal(commands.Basic.GetOk(6, True, "e", "k", 77)),
            *content(EMPTY, b""),
            marshal(commands.Basic.GetEmpty()),
        )
    )
    assert decode(wire) == [
        (1, "confirm", 3, True, True),
        (1, "confirm", 4, False, False),
        (1, "returned", 312, "NO_ROUTE", b"e", b"k", EMPTY, b"back"),
        (1, "got", Got(6, True, b"e", b"k", 77), EMPTY, b""),
        (1, "basic.get-empty", ""),
    ]


def test_channels_and_heartbeats_between_the_frames_of_a_message() -> None:
    one = [marshal(DELIVER, 1), *content(SOME, b"one", 1)]
    two = [marshal(DELIVER, 2), *content(SOME, b"two", 2)]
    heartbeat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    wire = one[0] + two[0] + heartbeat + two[1] + one[1] + heartbeat + one[2] + two[2]
    assert [(told[0], told[-1]) for told in decode(wire)] == [(1, b"one"), (2, b"two")]


@settings(max_examples=300)
@given(CONVERSATIONS, st.lists(st.integers(0, 10_000), max_size=10))
def test_any_cuts_give_the_same(wire: bytes, cuts: list[int]) -> None:
    assert decode(wire, cuts) == decode(wire)


def test_byte_by_byte() -> None:
    wire = deliver(1, SOME, b"x" * 300) + marshal(commands.Basic.Ack(3, True)) + deliver(2, EMPTY, b"")
    assert decode(wire, list(range(len(wire)))) == decode(wire)
    assert len(decode(wire)) == 3


def test_a_large_frame_in_small_pieces_is_not_looked_at_again_and_again() -> None:
    recorder = Recorder()
    decoder = Decoder({1: recorder})
    wire = deliver(1, EMPTY, b"x" * 131064)
    for at in range(0, len(wire), 7):
        decoder.receive(wire[at : at + 7])
    assert [len(told[-1]) for told in recorder.told] == [131064]


HEAD = content(EMPTY, b"abc")[0]
BODY = content(EMPTY, b"abc")[1]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 501),
        (b"\x15\x03\x03\x00\x02\x02\x28\x00", 501),
        (b"\x01\x00\x01\x00\x02\x00\x00" + bytes(10), 501),
        (marshal(DELIVER)[:-1] + b"\xcd", 501),
        (b"\x04\x00\x01\x00\x00\x00\x00\xce", 501),
        (b"\x08\x00\x01\x00\x00\x00\x00\xce", 501),
        (b"\x08\x00\x00\x00\x00\x00\x01\x00\xce", 501),
        (b"\x01\x00\x01\x00\x00\x00\x02\x00\x3c\xce", 502),
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x3c\x05\xce", 502),
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50\x05\xce", 502),
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x32\x05\xce", 502),
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x47\x05\xce", 502),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x63\xce", 502),
        (marshal(DELIVER)[:-1] + b"x\xce", 501),
        (marshal(commands.Basic.Ack(1), 9), 504),
        (HEAD, 505),
        (BODY, 505),
        (marshal(DELIVER) + BODY, 505),
        (marshal(DELIVER) + HEAD + HEAD, 505),
        (marshal(DELIVER) + marshal(DELIVER), 505),
        (marshal(DELIVER) + HEAD + content(EMPTY, b"abcd")[1], 501),
        (marshal(DELIVER) + HEAD + b"\x03\x00\x01\x00\x00\x00\x00\xce", 501),
        (marshal(DELIVER) + b"\x02\x00\x01\x00\x00\x00\x02\x00\x3c\xce", 502),
        (marshal(DELIVER) + HEAD.replace(b"\x00\x3c", b"\x00\x3d", 1), 502),
        (marshal(DELIVER) + HEAD.replace(b"\x03" + EMPTY, b"\xff" + EMPTY)[:-9] + b"\x7f" * 9, 501),
    ],
)
def test_what_is_not_allowed(wire: bytes, code: int) -> None:
    for cuts in ([], list(range(len(wire)))):
        with pytest.raises(FrameError) as caught:
            decode(wire, cuts)
        assert caught.value.reply_code == code


def test_a_frame_larger_than_agreed_and_a_message_larger_than_allowed() -> None:
    decoder = Decoder({1: Recorder()}, max_body=100)
    decoder.frame_max = MIN_FRAME
    with pytest.raises(FrameError, match="too large"):
        decoder.receive(b"\x03\x00\x01" + (MIN_FRAME - 7).to_bytes(4, "big") + b"\x00")
    decoder = Decoder({1: Recorder()}, max_body=100)
    decoder.receive(deliver(1, EMPTY, b"x" * 100)[:-1])
    decoder = Decoder({1: Recorder()}, max_body=100)
    with pytest.raises(FrameError, match="more than 100 bytes"):
        decoder.receive(marshal(DELIVER) + content(EMPTY, b"x" * 101)[0])


def test_what_a_receiver_raises_loses_only_its_own_message() -> None:
    recorder = Recorder()

    def fail(*_: object) -> None:
        raise IndexError  # looks like a parser's

    recorder.consumers[b"bad"] = fail
    decoder = Decoder({1: recorder})
    wire = deliver(1, EMPTY, b"a", consumer="bad") + deliver(2, EMPTY, b"b") + deliver(3, EMPTY, b"c", consumer="bad")
    for data in (wire, b""):
        with pytest.raises(IndexError):
            decoder.receive(data)
    decoder.receive(deliver(4, EMPTY, b"d"))
    assert [told[2] for told in recorder.told] == [2, 4]


def test_a_channel_that_is_gone_takes_what_it_had_begun_with_it() -> None:
    channels: dict[int, Recorder] = {1: Recorder()}
    decoder = Decoder(channels)  # type: ignore[arg-type]
    decoder.receive(marshal(DELIVER))
    decoder.forget(1)
    decoder.receive(deliver(1, EMPTY, b"new"))
    assert [told[-1] for told in channels[1].told] == [b"new"]


@settings(max_examples=1000)
@given(st.binary(max_size=100), CONVERSATIONS, st.data())
def test_arbitrary_and_mutated_bytes_raise_only_protocol_errors(noise: bytes, wire: bytes, data: st.DataObject) -> None:
    mutated = bytearray(wire or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=3))
    for attempt in (noise, bytes(mutated)):
        outcomes = []
        for places in ([], cuts):
            try:
                outcomes.append(decode(attempt, places))
            except ProtocolError as error:
                outcomes.append([(error.message,)])
        assert outcomes[0] == outcomes[1]
