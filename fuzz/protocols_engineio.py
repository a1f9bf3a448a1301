"""Fuzz target 1: Engine.IO bodies, their packets, and a session that is fed with them.

.venv/bin/python -m fuzz.protocols_engineio [-max_total_time=60]      with atheris, if it is installed
.venv/bin/python -m fuzz.protocols_engineio [examples]                without it: Hypothesis
"""

from __future__ import annotations

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from smart_router.errors import ProtocolError
from smart_router.protocols.engineio import (
    MESSAGE,
    EngineOptions,
    EngineSession,
    Transport,
    check_request,
    decode_payload,
    encode_payload,
    parse_query,
)

__all__ = ["INPUTS", "one_input"]

INPUTS = st.binary(max_size=200) | st.text("b0123456AQ=\x1eprobe", max_size=80).map(str.encode)


def one_input(data: bytes) -> None:
    """Whatever the bytes are, only ProtocolError comes out, and what is accepted is written back to the byte."""
    check_request("GET", parse_query(data), websocket=False, current=None)
    try:
        packets = decode_payload(data)
    except ProtocolError:
        packets = []
    else:
        assert encode_payload(packets) == data
    session = EngineSession("sid", Transport.POLLING, EngineOptions(), 0.0)
    try:
        session.begin_upgrade(0.0)
        for now, packet in enumerate(packets):
            if packet.binary or packet.data[0] == MESSAGE:
                session.send(packet.data, packet.binary)
            elif session.upgrading and packet.data != b"3":
                if session.receive_probe(packet.data) is None:
                    session.finish_upgrade()
                    return
            else:
                session.receive(packet.data)
            session.handle_timer(float(now))
            session.poll(float(now))
    except ProtocolError:
        return


if __name__ == "__main__":
    run(one_input, INPUTS)
