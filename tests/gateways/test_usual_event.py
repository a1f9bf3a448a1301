"""The short way of an event and the long one agree: on what the handler gets, and on whose connection ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import pytest

from smart_router.clock import Deadlines, SystemClock
from smart_router.config.schema import GatewaySettings
from smart_router.gateways.base import BinaryApplication, Socket
from smart_router.gateways.request import HttpRequest
from smart_router.gateways.socketio import SocketIOConnection, SocketIOGateway
from smart_router.gateways.websocket import WebSocket
from smart_router.protocols.socketio import ConnectData
from tests.gateways.recorder import Recorder, Recording
from tests.protocols.socketio_packets import some_packet

FIRST = (b'["talk",{}]', b'["message",1]', b'["A\xc3\xa9",1]')


def never(when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    """No timer is waited for here."""
    return cast(asyncio.TimerHandle, Unset())


class Unset:
    def cancel(self) -> None:
        """It was never set."""


class Parsing(Recording):
    """Takes the short way wherever the argument is JSON."""

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        try:
            msgspec.json.decode(raw, type=msgspec.Raw)
            msgspec.json.decode(b"[%b]" % raw, type=tuple[msgspec.Raw])
        except msgspec.DecodeError:
            return False
        self.calls.put_nowait(("event", name, [raw.strip(b" \t\r\n")], (), ack_id))
        return True


class Wire:
    """What a connection needs of its WebSocket, and nothing behind it."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.closed_with: int | None = None

    def send_text(self, *parts: bytes) -> None:
        """Nobody reads it."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = code

    abort = close


def outcome(recording: type[Recording], frames: Sequence[bytes], namespace: str) -> object:
    """What a handler was called with, and the code that the connection ended with."""
    handlers: list[Recording] = []

    class Application:
        def prepare(self, socket: Socket, auth: ConnectData) -> None:
            return

        def connect(self, socket: Socket, auth: ConnectData) -> Recording:
            handlers.append(recording(Recorder(), socket))
            return handlers[-1]

    deadlines = Deadlines(SystemClock(), never)
    gateway = SocketIOGateway(
        GatewaySettings(kind="socketio", path="/"), cast(BinaryApplication, Application()), deadlines, SystemClock()
    )
    request = HttpRequest("/", b"EIO=4&transport=websocket")
    connection = gateway.websocket(request)
    assert isinstance(connection, SocketIOConnection)
    wire = Wire(request)
    connection.opened(cast(WebSocket, wire))
    connection.text(b"40" + (namespace.encode() + b"," if namespace != "/" else b""))
    for frame in frames:
        if wire.closed_with is None:
            connection.text(frame)
    calls = handlers[0].calls
    return [calls.get_nowait() for _ in range(calls.qsize())], wire.closed_with


@pytest.mark.parametrize("namespace", ["/", "/ui/456"])
@pytest.mark.parametrize("seed", range(4))
def test_both_ways_agree(namespace: str, seed: int) -> None:
    dice = random.Random(seed)
    head = b"42" if namespace == "/" else b"42" + namespace.encode() + b","
    learnt = [head + array for array in FIRST]
    for _ in range(400):
        text = b"4" + some_packet(dice)[0].encode("utf-8", "surrogatepass")
        frame = text.replace(b"/chat,", namespace.encode() + b",", 1) if dice.random() < 0.3 else head + text[2:]
        assert outcome(Parsing, [*learnt, frame], namespace) == outcome(Recording, [*learnt, frame], namespace), frame


@pytest.mark.parametrize(
    "rest",
    [
        *(
            b'["talk",{"a":1}]',
            b'7["talk",1]',
            b'["talk",1,2]',
            b'["talk"]',
            b'["talk",1] ',
            b'["talk", 1]',
            b'["talk",]',
        ),
        *(b'["talk",{"a":[1,2}]', b'007["talk",1]', b'["talk","],["]', b'["talk",[[]]]', b'-1["talk",1]', b"[]", b""),
        *(b'["talk",' + b"[" * 70 + b"]" * 71, b'12345678901234567["talk",1]', b'9["talk",1'),
    ],
)
def test_the_edges(rest: bytes) -> None:
    frames = [b'42/ui,["talk",{}]', b"42/ui," + rest, b'42/ui,["talk",2]']
    assert outcome(Parsing, frames, "/ui") == outcome(Recording, frames, "/ui")
