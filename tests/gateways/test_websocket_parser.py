"""What we rely on of picows, whose protocol class is not public API: read this when a new version fails."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, cast

import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from smart_router.gateways.parser import Parser, feed, grown, open_parser
from smart_router.gateways.websocket import WebSocket
from tests.gateways.raw import frame


class Listener(WSListener):
    """Stands where the WebSocket stands."""

    def __init__(self) -> None:
        self.frames: list[tuple[Any, ...]] = []
        self.codes: list[int] = []
        self.gone = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        bits = (frame.fin, frame.rsv1, frame.rsv2, frame.rsv3)
        self.frames.append((frame.msg_type, bits, frame.get_payload_as_bytes(), frame.last_in_buffer, frame.tail_size))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone += 1

    def broken(self, code: int) -> None:
        self.codes.append(code)


def opened(max_frame: int = 1000) -> tuple[Parser, Listener]:
    listener = Listener()
    return open_parser(cast(WebSocket, listener), max_frame), listener


async def test_the_version_is_the_one_this_was_written_for() -> None:
    assert version("picows").startswith("2.3.")


async def test_the_played_handshake_leaves_an_empty_small_buffer() -> None:
    parser, listener = opened()
    assert (listener.frames, listener.codes) == ([], [])
    assert 1024 <= len(parser.get_buffer(-1)) <= 2048


@pytest.mark.parametrize("size", [10, 1000, 10_000, 100_000])
async def test_what_a_buffer_has_grown_by_is_seen_from_its_free_end(size: int) -> None:
    parser, _ = opened(200_000)
    assert grown(parser) == 0
    whole = frame(2, bytes(size))
    for cut in range(0, len(whole), 500):
        feed(parser, whole[cut : cut + 500])
        received = min(cut + 500, len(whole))
        assert received / 8 - 2048 <= grown(parser) <= 2.5 * received
    assert size - 2048 <= grown(parser) == len(parser.get_buffer(0)) - 1792


async def test_frames_come_with_their_bits_and_what_is_behind_them() -> None:
    parser, listener = opened()
    feed(parser, frame(1, b"a") + frame(0, b"bc", fin=False, rsv=0x50) + frame(9, b"") + b"\x81")
    assert listener.frames == [
        (WSMsgType.TEXT, (1, 0, 0, 0), b"a", 0, 15),
        (WSMsgType.CONTINUATION, (0, 1, 0, 1), b"bc", 0, 7),
        (WSMsgType.PING, (1, 0, 0, 0), b"", 1, 1),
    ]
    assert listener.codes == []


async def test_the_kinds_can_be_compared_by_identity() -> None:
    parser, listener = opened()
    for opcode, kind in ((0, "CONTINUATION"), (1, "TEXT"), (2, "BINARY"), (8, "CLOSE"), (9, "PING"), (10, "PONG")):
        feed(parser, frame(opcode))
        assert listener.frames[-1][0] is WSMsgType[kind]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"x", masked=False), 1002),
        (frame(3), 1002),
        (frame(9, b"x" * 126), 1002),
        (frame(9, fin=False), 1002),
        (b"\x81\xff" + b"\xff" * 8, 1002),
        (frame(2, b"x" * 1001), 1009),
        (frame(8, b"\x03"), 1002),
    ],
)
async def test_a_broken_frame_is_told_before_the_frame_in_front_of_it(data: bytes, code: int) -> None:
    parser, listener = opened()
    room = parser.get_buffer(-1)
    sent = (frame(1, b"before") + data)[: len(room)]
    room[: len(sent)] = sent
    parser.buffer_updated(len(sent))
    assert listener.codes == [code]
    assert [seen[2] for seen in listener.frames] == [b"before"]


async def test_a_lost_connection_is_told_once() -> None:
    parser, listener = opened()
    parser.connection_lost(None)
    assert listener.gone == 1
