from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp import MIN_FRAME, FrameError
from smart_router.protocols.amqp_connection import CAPABILITIES, Ending, Login, Phase, Protocol, Tuning
from tests.protocols.amqp_frames import Recorder, deliver, marshal

PROPERTIES: Any = {
    "product": "RabbitMQ",
    "version": "3.10.8",
    "cluster_name": "rabbit@a",
    "capabilities": {**dict.fromkeys(CAPABILITIES, True), "direct_reply_to": False},
}
START = marshal(commands.Connection.Start(server_properties=PROPERTIES, mechanisms="AMQPLAIN PLAIN"), 0)
TUNE = marshal(commands.Connection.Tune(2047, 131072, 60), 0)
OPEN_OK = marshal(commands.Connection.OpenOk(), 0)
CLOSE_OK = marshal(commands.Connection.CloseOk(), 0)


class Client:
    """A protocol and what it wrote."""

    def __init__(self, wanted: Tuning | None = None) -> None:
        self.out: list[bytes] = []
        self.alarms: list[str] = []
        login = Login("me", "s3cret", "/shop", "node-1")
        self.protocol = Protocol(login, wanted or Tuning(), self.out.append, self.alarms.append)
        self.protocol.begin()

    def receive(self, *pieces: bytes) -> list[Any]:
        """The answers."""
        self.out.clear()
        for piece in pieces:
            self.protocol.receive(piece)
        return [frame.unmarshal(data)[2] for data in self.out]


def opened(wanted: Tuning | None = None) -> Client:
    client = Client(wanted)
    client.receive(START, TUNE, OPEN_OK)
    assert client.protocol.phase is Phase.OPEN
    return client


def test_the_way_to_an_open_connection() -> None:
    client = Client()
    assert client.out == [b"AMQP\x00\x00\x09\x01"]
    (start_ok,) = client.receive(START)
    assert isinstance(start_ok, commands.Connection.StartOk)
    assert (start_ok.mechanism, start_ok.response, start_ok.locale) == ("PLAIN", "\0me\0s3cret", "en_US")
    assert start_ok.client_properties["connection_name"] == "node-1"
    assert start_ok.client_properties["capabilities"] == dict.fromkeys(CAPABILITIES, True)
    tune_ok, connection_open = client.receive(TUNE)
    assert isinstance(tune_ok, commands.Connection.TuneOk)
    assert (tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat) == (128, 131072, 5)
    assert isinstance(connection_open, commands.Connection.Open)
    assert connection_open.virtual_host == "/shop"
    assert client.receive(OPEN_OK) == []
    protocol = client.protocol
    assert protocol.phase is Phase.OPEN
    assert protocol.server is not None
    assert protocol.server.version == (3, 10, 8)
    assert protocol.server.cluster == "rabbit@a"
    assert protocol.server.capabilities == frozenset(CAPABILITIES)


def test_all_at_once_and_byte_by_byte() -> None:
    wire = START + TUNE + OPEN_OK
    for pieces in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
        client = Client()
        assert len(client.receive(*pieces)) == 3
        assert client.protocol.phase is Phase.OPEN


@pytest.mark.parametrize(
    ("theirs", "agreed"),
    [
        ((0, 0, 0), Tuning(128, 131072, 5)),
        ((2047, 131072, 60), Tuning(128, 131072, 5)),
        ((10, MIN_FRAME, 3), Tuning(10, MIN_FRAME, 3)),
        ((65535, 2**31, 65535), Tuning(128, 131072, 5)),
    ],
)
def test_tuning(theirs: tuple[int, int, int], agreed: Tuning) -> None:
    client = Client()
    tune_ok = client.receive(START, marshal(commands.Connection.Tune(*theirs), 0))[1]
    assert (tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat) == agreed
    assert client.protocol.tuning == agreed
    assert client.protocol.decoder.frame_max == agreed.frame_max


def test_a_refused_login_and_a_missing_virtual_host() -> None:
    refused = marshal(commands.Connection.Close(403, "ACCESS_REFUSED", 0, 0), 0)
    missing = marshal(commands.Connection.Close(530, "NOT_ALLOWED - vhost /shop not found", 10, 40), 0)
    client = Client()
    assert isinstance(client.receive(START, refused)[-1], commands.Connection.CloseOk)
    assert client.protocol.ending == Ending(403, "ACCESS_REFUSED", Phase.LOGGED_IN)
    client = Client()
    client.receive(START, TUNE, missing)
    assert client.protocol.ending == Ending(530, "NOT_ALLOWED - vhost /shop not found", Phase.OPENING)
    assert client.protocol.phase is Phase.CLOSED


def test_our_goodbye_is_answered() -> None:
    client = opened()
    client.protocol.close()
    client.protocol.channels[1] = Recorder()
    client.receive(marshal(commands.Connection.Blocked("late"), 0), deliver(1, b"\0\0", b""), CLOSE_OK)
    assert client.protocol.phase is Phase.CLOSED
    assert client.protocol.ending is None
    assert client.alarms == []


def test_both_say_goodbye() -> None:
    client = opened()
    client.protocol.close()
    forced = marshal(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), 0)
    assert [type(answer) for answer in client.receive(forced)] == [commands.Connection.CloseOk]
    assert client.protocol.phase is Phase.CLOSED


def test_before_it_is_open_there_is_nobody_to_say_goodbye_to() -> None:
    client = Client()
    client.out.clear()
    client.protocol.close()
    assert (client.out, client.protocol.phase) == ([], Phase.CLOSED)


def test_alarms() -> None:
    client = opened()
    client.receive(marshal(commands.Connection.Blocked("low on memory"), 0))
    client.receive(marshal(commands.Connection.Unblocked(), 0), marshal(commands.Connection.Blocked(""), 0))
    assert client.alarms == ["low on memory", "", "an alarm"]


@pytest.mark.parametrize(
    ("pieces", "match"),
    [
        ([b"AMQP\x00\x00\x09\x01"], "another version"),
        ([b"AMQP\x00\x01\x00\x00"], "another version"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "no AMQP"),
        ([TUNE], "not allowed now"),
        ([START, START], "not allowed now"),
        ([START, OPEN_OK], "not allowed now"),
        ([START, TUNE, OPEN_OK, TUNE], "not allowed now"),
        ([START, TUNE, OPEN_OK, CLOSE_OK], "not allowed now"),
        ([START, marshal(commands.Connection.Secure("?"), 0)], "not allowed now"),
        ([START, marshal(commands.Connection.Tune(0, 4095, 0), 0)], "4096"),
        ([marshal(commands.Connection.Start(mechanisms="EXTERNAL GSSAPI"), 0)], "PLAIN"),
        ([START, TUNE, OPEN_OK, deliver(1, b"\0\0", b"", channel=0)], "channel 0"),
        ([START, TUNE, OPEN_OK, marshal(commands.Basic.Ack(1), 0)], "channel 0"),
        ([START, TUNE, OPEN_OK, deliver(1, b"\0\0", b"", channel=5)], "channel 5"),
    ],
)
def test_what_is_not_allowed(pieces: list[bytes], match: str) -> None:
    client = Client()
    with pytest.raises(FrameError, match=match):
        client.receive(*pieces)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.10.8", (3, 10, 8)),
        ("3.13.0-rc.2", (3, 13, 0)),
        ("4.1.0+2", (4, 1, 0)),
        ("4.x", (4,)),
        ("", ()),
        ("³.1", ()),
        (7, ()),
    ],
)
def test_versions(text: Any, version: tuple[int, ...]) -> None:
    client = Client()
    client.receive(marshal(commands.Connection.Start(server_properties={"version": text}), 0))
    assert client.protocol.server is not None
    assert client.protocol.server.version == version
    assert client.protocol.server.capabilities == frozenset()


def test_no_password_in_any_text() -> None:
    client = Client()
    assert "s3cret" not in repr(client.protocol._login)


@settings(max_examples=300)
@given(st.data())
def test_mutated_handshakes_raise_only_protocol_errors(data: st.DataObject) -> None:
    wire = bytearray(START + TUNE + OPEN_OK + marshal(commands.Connection.Blocked("x"), 0))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    client = Client()
    with suppress(ProtocolError):
        client.protocol.receive(bytes(wire))
