"""Fuzz target 8, AMQP: what a broker, or what is no broker, sends; properties and tables.

.venv/bin/python -m fuzz.protocols_amqp [-max_total_time=60]      with atheris, if it is installed
.venv/bin/python -m fuzz.protocols_amqp [examples]                without it: Hypothesis
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from smart_router.errors import ProtocolError
from smart_router.protocols.amqp import Encoder
from smart_router.protocols.amqp_connection import Login, Protocol, Tuning
from smart_router.protocols.amqp_decoder import Decoder, Got, OnDeliver
from smart_router.protocols.amqp_methods import Method, decode_method, encode_method
from smart_router.protocols.amqp_properties import Properties, decode_properties, encode_properties
from smart_router.protocols.amqp_table import decode_table, encode_table

__all__ = ["INPUTS", "one_input"]

_PROPERTIES = encode_properties(Properties(2, "id", "talk", {"from": "ui/1/a", "list": [1, None, {"x": b"y"}]}))
_MESSAGE = Encoder(1).publish(b"e", b"k", _PROPERTIES, b"body", True)
_DELIVER = struct.pack(">BHIHHB", 1, 1, 20, 60, 60, 1) + b"1" + bytes(9) + b"\x01e\x02kk\xce"
_DELIVERY = _DELIVER + _MESSAGE[_MESSAGE.index(b"\xce\x02\x00\x01") + 1 :]
_START = Encoder(0).method(
    Method("connection.start", properties={"product": "RabbitMQ", "version": "3.10.8"}, mechanisms=b"PLAIN")
)
_TUNE = Encoder(0).method(Method("connection.tune", channel_max=9, frame_max=4096, heartbeat=1))
_SEEDS = st.sampled_from(
    [
        _DELIVERY,
        _DELIVERY + Encoder(1).ack(7, True) + _DELIVERY,
        _START + _TUNE + Encoder(0).method(Method("connection.open-ok")),
        Encoder(1).method(Method("queue.declare-ok", queue="q", messages=1)),
        _PROPERTIES,
        encode_table({"a": "b", "c": {"d": [1.5, True]}}),
    ]
)
_MUTATED = st.tuples(_SEEDS, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)).map(
    lambda pair: _mutate(*pair)
)
INPUTS = st.binary(max_size=200) | _MUTATED


def _mutate(seed: bytes, changes: list[tuple[int, int]]) -> bytes:
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    return bytes(data)


class _Told:
    """A receiver that looks at all it gets, as a broker's provider does."""

    def __init__(self) -> None:
        self.consumers: dict[bytes, OnDeliver] = {b"1": self.stray}
        self.log: list[object] = []

    def stray(self, tag: int, again: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes) -> None:
        self.log.append((tag, again, exchange, routing_key, properties, body))

    def confirm(self, number: int, multiple: bool, ok: bool) -> None:
        self.log.append((number, multiple, ok))

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        self.log.append((code, text, exchange, routing_key, properties, body))

    def got(self, got: Got, properties: bytes, body: bytes) -> None:
        self.log.append((got, properties, body))

    def method(self, method: Method) -> None:
        self.log.append((method.name, repr(method.fields)))


def one_input(data: bytes) -> None:
    """Only ProtocolError comes out; cuts change nothing; what is accepted is the same when it is written and read."""
    half = len(data) // 2
    assert _decode(data) == _decode(data[:1], data[1:half], data[half:])
    _properties(data)
    _method(data[7:-1])
    _table(data)
    protocol = Protocol(Login("me", "secret", "/", "fuzz"), Tuning(), lambda out: None, lambda reason: None)
    protocol.begin()
    try:
        protocol.receive(data)
        protocol.close()
    except ProtocolError:
        return


def _decode(*pieces: bytes) -> tuple[list[object], str]:
    told = _Told()
    decoder = Decoder({1: told}, max_body=1 << 20)
    try:
        for piece in pieces:
            decoder.receive(piece)
    except ProtocolError as error:
        return told.log, error.message
    return told.log, ""


def _properties(data: bytes) -> None:
    try:
        properties = decode_properties(data)
    except ProtocolError:
        return
    assert repr(decode_properties(encode_properties(properties))) == repr(properties)


def _method(payload: bytes) -> None:
    try:
        method = decode_method(payload)
    except ProtocolError:
        return
    assert repr(decode_method(encode_method(method)).fields) == repr(method.fields)


def _table(data: bytes) -> None:
    try:
        table = decode_table(data)
    except ProtocolError:
        return
    assert repr(decode_table(encode_table(table))) == repr(table)


if __name__ == "__main__":
    run(one_input, INPUTS)
