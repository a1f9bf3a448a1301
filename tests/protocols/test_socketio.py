from __future__ import annotations

import pytest

from smart_router.errors import ProtocolError
from smart_router.protocols.socketio import Limits, Packet, SocketConnection

T0 = 100.0
LIMITS = Limits(connect_timeout=1.0, attachments_timeout=10.0, namespaces=3, message_bytes=1000)
BINARY = b'451-["a",{"_placeholder":true,"num":0}]'


def connection(*joined: str) -> SocketConnection:
    socket = SocketConnection(T0, LIMITS)
    for namespace in joined:
        text = b"40" if namespace == "/" else f"40{namespace},".encode()
        assert socket.receive_text(text, T0) == Packet(0, namespace, b"")
        assert socket.accept(namespace, "sid")
    return socket


def test_connect_is_answered_with_the_sid() -> None:
    socket = SocketConnection(T0, LIMITS)
    assert socket.receive_text(b'40{"token":1}', T0) == Packet(0, "/", b'{"token":1}')
    assert not socket.is_open("/")
    assert socket.accept("/", "abc") == b'40{"sid":"abc"}'
    assert socket.is_open("/")
    socket.receive_text(b"40/custom,", T0)
    assert socket.accept("/custom", "def", "pid") == b'40/custom,{"sid":"def","pid":"pid"}'
    assert socket.open_namespaces == ["/", "/custom"]


def test_a_refused_namespace_leaves_the_connection() -> None:
    socket = connection("/")
    socket.receive_text(b"40/random", T0)
    assert socket.refuse("/random", "Invalid namespace") == b'44/random,{"message":"Invalid namespace"}'
    assert socket.receive_text(b'42["a"]', T0) == Packet(2, "/", b'["a"]')
    assert socket.receive_text(b"40/random", T0) is not None


def test_packets_of_an_open_namespace_are_handed_on() -> None:
    socket = connection("/", "/custom")
    assert socket.receive_text(b'42/custom,7["a"]', T0) == Packet(2, "/custom", b'["a"]', 7)
    assert socket.receive_text(b"437[]", T0) == Packet(3, "/", b"[]", 7)
    assert socket.receive_text(BINARY, T0) is None
    packet = socket.receive_binary(b"\1")
    assert packet is not None
    assert (packet.type, packet.frames) == (5, (b"\1",))


@pytest.mark.parametrize("frame", [b"4abc", b"42{}", b"42abc[]", b"44{}", b'44"x"', b"4", b"40", b"40[]"])
def test_a_bad_packet_ends_the_connection(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        connection("/").receive_text(frame, T0)


@pytest.mark.parametrize("frame", [b"4abc", b'42["a"]', b"431[]", BINARY, b"41", b'42/custom,["a"]'])
def test_nothing_comes_before_connect(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        SocketConnection(T0, LIMITS).receive_text(frame, T0)


@pytest.mark.parametrize("frame", [b'42["a"]', b"431[]", BINARY, b"40"])
def test_nothing_comes_while_connecting(frame: bytes) -> None:
    socket = SocketConnection(T0, LIMITS)
    socket.receive_text(b"40", T0)
    with pytest.raises(ProtocolError):
        socket.receive_text(frame, T0)


def test_leaving_one_namespace_keeps_the_others_and_drops_what_comes_late() -> None:
    socket = connection("/", "/custom")
    assert socket.receive_text(b"41/custom", T0) == Packet(1, "/custom", b"")
    assert socket.receive_text(b"41/custom,", T0) is None
    assert socket.receive_text(b'42/custom,["a"]', T0) is None
    assert socket.receive_text(b'451-/custom,["a",{"_placeholder":true,"num":0}]', T0) is None
    assert socket.receive_binary(b"") is None
    assert socket.statistics() == (1, 2)
    assert socket.receive_text(b'42["a"]', T0) is not None
    assert socket.receive_text(b"40/custom,", T0) is not None
    assert socket.accept("/custom", "new") is not None


def test_a_namespace_that_we_end() -> None:
    socket = connection("/")
    assert socket.leave("/") == b"41"
    assert socket.leave("/") is None
    assert socket.receive_text(b'42["a"]', T0) is None


def test_a_client_may_leave_before_it_is_let_in() -> None:
    socket = SocketConnection(T0, LIMITS)
    socket.receive_text(b"40", T0)
    assert socket.receive_text(b"41", T0) is not None
    assert socket.accept("/", "abc") is None
    assert socket.refuse("/", "no") is None


def test_the_time_to_join_ends_with_the_first_namespace() -> None:
    socket = SocketConnection(T0, LIMITS)
    assert socket.next_deadline() == T0 + 1
    socket.receive_text(b"40/random", T0)
    socket.refuse("/random", "Invalid namespace")
    socket.handle_timer(T0 + 0.9)
    with pytest.raises(ProtocolError, match="no namespace joined"):
        socket.handle_timer(T0 + 1)
    joined = connection("/")
    assert joined.next_deadline() is None
    joined.receive_text(b"41", T0)
    assert joined.next_deadline() is None


def test_attachments_have_their_time() -> None:
    socket = connection("/")
    socket.receive_text(BINARY, T0 + 5)
    assert socket.next_deadline() == T0 + 15
    socket.handle_timer(T0 + 14)
    with pytest.raises(ProtocolError, match="attachments"):
        socket.handle_timer(T0 + 15)


def test_attachments_come_one_after_the_other_or_not_at_all() -> None:
    with pytest.raises(ProtocolError, match="no packet announced"):
        connection("/").receive_binary(b"")
    socket = connection("/")
    socket.receive_text(BINARY, T0)
    socket.receive_binary(b"")
    with pytest.raises(ProtocolError, match="no packet announced"):
        socket.receive_binary(b"")
    socket.receive_text(BINARY, T0)
    with pytest.raises(ProtocolError, match="in the middle"):
        socket.receive_text(b'42["a"]', T0)


@pytest.mark.parametrize("announced", [b"0-", b"11-", b"1000000000-", b"", b"-"])
def test_a_number_of_attachments_out_of_bounds_is_refused(announced: bytes) -> None:
    with pytest.raises(ProtocolError):
        connection("/").receive_text(b"45" + announced + b'["a"]', T0)


def test_attachments_are_limited_in_bytes() -> None:
    socket = connection("/")
    socket.receive_text(BINARY, T0)
    with pytest.raises(ProtocolError, match="too large"):
        socket.receive_binary(b"x" * 1000)


def test_a_placeholder_without_attachments_is_plain_data() -> None:
    frame = b'42["a",{"_placeholder":true,"num":7}]'
    assert connection("/").receive_text(frame, T0) == Packet(2, "/", frame[2:])


def test_namespaces_are_limited() -> None:
    socket = connection("/", "/a", "/b")
    socket.receive_text(b"41/b", T0)
    assert socket.receive_text(b"40/c", T0) is not None
    assert socket.has_too_many
    socket.refuse("/c", "too many")
    assert socket.receive_text(b"40/b", T0) is not None
    assert not socket.has_too_many
