"""RFC 6455, the server's side, on the wire: each row of the rules with its close code."""

from __future__ import annotations

import pytest

from smart_router.gateways.listener import ListenerSettings
from tests.gateways.raw import frame, listening, websocket

LIMIT = 70_000
EURO = "€".encode()


def lengths(first: int, second: int, size: bytes, payload: bytes = b"") -> bytes:
    return bytes([first, second]) + size + b"\0\0\0\0" + payload


BROKEN = {
    # what is sent: (bytes, close code)
    "unmasked": (frame(1, b"x", masked=False), 1002),
    "rsv1": (frame(1, b"x", rsv=0x40), 1002),
    "rsv2": (frame(1, b"x", rsv=0x20), 1002),
    "rsv3": (frame(2, b"x", rsv=0x10), 1002),
    "rsv1 on a ping": (frame(9, b"x", rsv=0x40), 1002),
    "rsv1 on a close": (frame(8, b"", rsv=0x40), 1002),
    **{f"opcode {code}": (frame(code, b"x"), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": (frame(9, b"x" * 126), 1002),
    "pong of 126 bytes": (frame(10, b"x" * 126), 1002),
    "close of 126 bytes": (frame(8, b"\x03\xe8" + b"x" * 124), 1002),
    "fragmented ping": (frame(9, b"x", fin=False), 1002),
    "fragmented close": (frame(8, b"", fin=False), 1002),
    "continuation of nothing": (frame(0, b"x"), 1002),
    "continuation of nothing, not the last": (frame(0, b"x", fin=False), 1002),
    "text inside a text": (frame(1, b"x", fin=False) + frame(1, b"y"), 1002),
    "binary inside a text": (frame(1, b"x", fin=False) + frame(2, b"y", fin=False), 1002),
    "continuation after the end": (frame(1, b"x", fin=False) + frame(0, b"y") + frame(0, b"z"), 1002),
    "text not UTF-8": (frame(1, b"\xff"), 1007),
    "surrogate": (frame(1, b"\xed\xa0\x80"), 1007),
    "overlong": (frame(1, b"\xc0\xaf"), 1007),
    "beyond Unicode": (frame(1, b"\xf4\x90\x80\x80"), 1007),
    "character cut at the end": (frame(1, EURO[:2]), 1007),
    "fragments not UTF-8 together": (frame(1, EURO[:2], fin=False) + frame(0, b"x"), 1007),
    "close of one byte": (frame(8, b"\x03"), 1002),
    **{
        f"close code {code}": (frame(8, code.to_bytes(2, "big")), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "close reason not UTF-8": (frame(8, b"\x03\xe8\xff"), 1007),
    "frame over the limit": (frame(2, b"x" * (LIMIT + 1)), 1009),
    "announced only": (lengths(0x82, 0xFF, (LIMIT + 1).to_bytes(8, "big")), 1009),
    "2^62 announced": (lengths(0x81, 0xFF, (1 << 62).to_bytes(8, "big")), 1009),
    "2^63 - 1 announced": (lengths(0x81, 0xFF, ((1 << 63) - 1).to_bytes(8, "big")), 1009),
    "high bit": (lengths(0x81, 0xFF, (1 << 63).to_bytes(8, "big")), 1002),
    "all bits": (lengths(0x81, 0xFF, b"\xff" * 8), 1002),
    "length not minimal, 16 bit": (lengths(0x81, 0xFE, b"\0\x05", b"hello"), 1002),
    "length not minimal, 64 bit": (lengths(0x81, 0xFF, b"\0" * 7 + b"\x05", b"hello"), 1002),
    "fragments over the limit": (frame(1, b"x" * 40_000, fin=False) + frame(0, b"x" * 40_000), 1009),
    "1025 fragments": (frame(2, b"", fin=False) + frame(0, b"", fin=False) * 1023 + frame(0, b""), 1009),
    "half a million empty fragments": (frame(2, b"", fin=False) + frame(0, b"", fin=False) * 500_000, 1009),
    "more than 1000 pings a second": (frame(9, b"") * 2500, 1008),
    "more than 1000 pongs nobody asked for": (frame(10, b"") * 2500, 1008),
}

WHOLE = {
    # what is sent: (bytes, events)
    "text": (frame(1, b"hello"), [("text", b"hello")]),
    "empty text": (frame(1, b""), [("text", b"")]),
    "binary": (frame(2, b"\xff\0"), [("binary", b"\xff\0")]),
    "empty binary": (frame(2, b""), [("binary", b"")]),
    **{f"{size} bytes": (frame(1, b"x" * size), [("text", b"x" * size)]) for size in (125, 126, 127, 65_535, 65_536)},
    "the limit": (frame(1, b"x" * LIMIT), [("text", b"x" * LIMIT)]),
    "fragments": (frame(1, b"a", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"), [("text", b"abc")]),
    "fragments within a character": (frame(1, EURO[:1], fin=False) + frame(0, EURO[1:]), [("text", EURO)]),
    "fragments up to the limit": (
        frame(2, b"x" * 40_000, fin=False) + frame(0, b"x" * 30_000),
        [("binary", b"x" * LIMIT)],
    ),
    "1024 fragments": (
        frame(2, b"x", fin=False) + frame(0, b"x", fin=False) * 1022 + frame(0, b"x"),
        [("binary", b"x" * 1024)],
    ),
    "pong between fragments": (
        frame(1, b"a", fin=False) + frame(10, b"p") + frame(0, b"b"),
        [("pong", b"p"), ("text", b"ab")],
    ),
    "all zero mask": (b"\x81\x81\0\0\0\0x", [("text", b"x")]),
    "noncharacters": (frame(1, "￿\U0010ffff\0".encode()), [("text", "￿\U0010ffff\0".encode())]),
}

CLOSES = {
    # the peer's close frame: (payload, what the handler is told, what is answered)
    "none": (b"", (1005, ""), b""),
    "1000": (b"\x03\xe8", (1000, ""), b"\x03\xe8"),
    "with a reason": ("è€".encode().join([b"\x03\xe9", b""]), (1001, "è€"), b"\x03\xe9" + "è€".encode()),
    "1003": (b"\x03\xeb", (1003, ""), b"\x03\xeb"),
    "1014": (b"\x03\xf6", (1014, ""), b"\x03\xf6"),
    "3000": (b"\x0b\xb8", (3000, ""), b"\x0b\xb8"),
    "3999": (b"\x0f\x9f", (3999, ""), b"\x0f\x9f"),
    "4999": (b"\x13\x87", (4999, ""), b"\x13\x87"),
    "longest reason": (b"\x03\xe8" + b"r" * 123, (1000, "r" * 123), b"\x03\xe8" + b"r" * 123),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_frame_closes_with_its_code_after_what_was_whole(name: str) -> None:
    data, code = BROKEN[name]
    async with listening(ListenerSettings(port=0, max_message=LIMIT)) as server:
        async with websocket(server, frame(1, b"echo before") + data + frame(1, b"echo after")) as client:
            assert await client.frame() == (1, b"echo before")
            while (got := await client.frame())[0] == 10:
                pass
            assert got[0] == 8
            assert int.from_bytes(got[1][:2], "big") == code
            assert await client.rest() == b""
            recorder = server.recorders[0]
            await recorder.done.wait()
        assert recorder.events[:2] == [("opened",), ("text", b"echo before")]
        assert recorder.events[-1][:2] == ("closed", code)
        assert ("text", b"echo after") not in recorder.events
        assert len(server.lines) == 1
        assert server.listener.statistics().websockets_failed == 1


@pytest.mark.parametrize("name", WHOLE)
async def test_what_is_allowed_is_delivered(name: str) -> None:
    data, expected = WHOLE[name]
    async with (
        listening(ListenerSettings(port=0, max_message=LIMIT)) as server,
        websocket(server, data + frame(1, b"echo end")) as client,
    ):
        assert await client.frame() == (1, b"echo end")
        assert server.recorders[0].events == [("opened",), *expected, ("text", b"echo end")]


@pytest.mark.parametrize("name", CLOSES)
async def test_the_peers_close_is_answered_with_the_same(name: str) -> None:
    payload, told, answer = CLOSES[name]
    async with listening() as server, websocket(server, frame(8, payload) + frame(1, b"late") + b"\xff\xff") as client:
        assert await client.frame() == (8, answer)
        await server.recorders[0].done.wait()
        assert server.recorders[0].events == [("opened",), ("closed", *told)]
        assert server.lines == []


@pytest.mark.parametrize("size", [0, 1, 124, 125])
async def test_a_ping_is_answered_with_the_same_bytes(size: int) -> None:
    payload = bytes(range(size))
    async with listening() as server, websocket(server) as client:
        client.send(frame(9, payload))
        assert await client.frame() == (10, payload)
