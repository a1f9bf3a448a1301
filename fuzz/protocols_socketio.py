"""Fuzz targets 2 and 3: Socket.IO packets, text then attachments; what is accepted is written back to the byte.

    .venv/bin/python -m fuzz.protocols_socketio [-max_total_time=60]      with atheris, if it is installed
    .venv/bin/python -m fuzz.protocols_socketio [examples]                without it: Hypothesis

One input is a text message, then binary messages, each behind a byte 0xFF, which no UTF-8 text holds.
"""

from __future__ import annotations

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from smart_router.errors import ProtocolError
from smart_router.protocols.socketio import (
    Packet,
    SocketConnection,
    decode_acknowledgement,
    decode_connect,
    decode_event,
    decode_packet,
    encode_packet,
    take_attachments,
)

__all__ = ["INPUTS", "one_input"]

TEXTS = st.builds(
    lambda head, count, rest: (head + count + rest).encode(),
    st.sampled_from(["40", "41", "42", "43", "44", "45", "46"]),
    st.sampled_from(["", "1-", "2-", "0-"]),
    st.text('/,a0179[]{}"\\u_:', max_size=40)
    | st.sampled_from(['["a",{"_placeholder":true,"num":0}]', '7[{"num":1,"_placeholder":true},"\\u0041"]']),
)
INPUTS = st.binary(max_size=200) | st.builds(lambda text, tail: text + b"\xff" + tail, TEXTS, st.binary(max_size=20))


def one_input(data: bytes) -> None:
    """Whatever the bytes are, only ProtocolError comes out."""
    text, *frames = data.split(b"\xff")
    round_trip(text)
    connection = SocketConnection(0.0)
    connection.receive_text(b"40", 0.0)
    connection.accept("/", "sid")
    try:
        take(connection.receive_text(text, 0.0))
        for frame in frames:
            take(connection.receive_binary(frame))
    except ProtocolError:
        return


def take(packet: Packet | None) -> None:
    """All that a gateway does with a packet."""
    if packet is None:
        return
    if packet.type == 0:
        decode_connect(packet.data)
    elif packet.type in (2, 5):
        decode_event(packet.data)
    elif packet.type in (3, 6):
        decode_acknowledgement(packet.data)
    if packet.attachments:
        _, frames = take_attachments(packet.data, packet.frames)
        assert len(frames) <= packet.attachments


def round_trip(text: bytes) -> None:
    """A namespace without its comma and the main one by its name are the two spellings that are not kept."""
    try:
        packet = decode_packet(text)
    except ProtocolError:
        return
    again = encode_packet(packet)
    assert decode_packet(again) == packet
    assert again in (text, text + b",") or text[2:].lstrip(b"0123456789-").startswith((b"/,",)) or text[2:] == b"/"


if __name__ == "__main__":
    run(one_input, INPUTS)
