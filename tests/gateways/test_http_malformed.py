"""Requests that may not be answered as requests (P9): 4xx or 5xx, close, and never two requests out of one."""

from __future__ import annotations

import asyncio

import pytest

from smart_router.gateways.listener import ListenerSettings
from tests.gateways.raw import KEY, connect, frame, listening, upgrade

HOST = b"Host: test.example\r\n"
SECOND = b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n"


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1", host: bytes = HOST) -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


MALFORMED = {
    # what is sent: (bytes, status)
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 32, 400),
    "NUL": (b"\0\r\n\r\n", 400),
    "PRI of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "PROXY v1 from nobody we trust": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(), 400),
    "PROXY v2 from nobody we trust": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\0" * 12 + get(), 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), 505),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), 400),
    "HTTP/9.9": (get(version=b"HTTP/9.9"), 400),
    "version in lower case": (get(version=b"http/1.1"), 400),
    "no version": (b"GET / \r\n" + HOST + b"\r\n", 400),
    "method unknown to HTTP": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "method in lower case": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT test.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "target without slash": (get(target=b"path"), 400),
    "target with a space": (get(target=b"/a b"), 400),
    "target with a control character": (get(target=b"/a\x01b"), 400),
    "target not ASCII": (get(target=b"/\xc3\xa9"), 400),
    "target of another scheme": (get(target=b"ftp://test.example/"), 400),
    "asterisk for GET": (get(target=b"*"), 400),
    "no Host": (get(host=b""), 400),
    "two Hosts": (get(b"Host: other.example"), 400),
    "Host with a path": (get(host=b"Host: test.example/x\r\n"), 400),
    "Host with a user": (get(host=b"Host: a@test.example\r\n"), 400),
    "Host with a comma and a space": (get(host=b"Host: a, b\r\n"), 400),
    "space before the colon": (get(b"X-A : b"), 400),
    "header without a colon": (get(b"X-A"), 400),
    "header without a name": (get(b": b"), 400),
    "header name with a space": (get(b"X A: b"), 400),
    "header name not ASCII": (get("X-Ä: b".encode()), 400),
    "NUL in a value": (get(b"X-A: a\0b"), 400),
    "control character in a value": (get(b"X-A: a\x01b"), 400),
    "bare CR in a value": (get(b"X-A: a\rb"), 400),
    "folded header": (get(b"X-A: a", b" b"), 400),
    "folded first header": (b"GET / HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n", 400),
    "Content-Length of letters": (post(b"Content-Length: five", body=b"12345"), 400),
    "Content-Length with a sign": (post(b"Content-Length: +5", body=b"12345"), 400),
    "Content-Length negative": (post(b"Content-Length: -1"), 400),
    "Content-Length hexadecimal": (post(b"Content-Length: 0x5", body=b"12345"), 400),
    "Content-Length with a fraction": (post(b"Content-Length: 5.0", body=b"12345"), 400),
    "Content-Length empty": (post(b"Content-Length:"), 400),
    "Content-Length a list": (post(b"Content-Length: 5, 5", body=b"12345"), 400),
    "Content-Length with a space inside": (post(b"Content-Length: 5 5", body=b"12345"), 400),
    "Content-Length in Arabic digits": (post("Content-Length: \u0665".encode(), body=b"12345"), 400),
    "Content-Length with a no-break space": (post("Content-Length: \u00a05".encode(), body=b"12345"), 400),
    "Content-Length twice, the same": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"), 400),
    "Content-Length twice, different": (post(b"Content-Length: 5", b"Content-Length: 0", body=SECOND), 400),
    "Content-Length of 2^64": (post(b"Content-Length: 18446744073709551616"), 400),
    "Content-Length of 30 digits": (post(b"Content-Length: " + b"9" * 30), 400),
    "Content-Length over the limit": (post(b"Content-Length: 2000"), 413),
    "Content-Length and chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked and Content-Length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "identity": (post(b"Transfer-Encoding: identity", body=b"12345"), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "chunked of HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size of letters": (chunked(b"xyz\r\n"), 400),
    "chunk size negative": (chunked(b"-1\r\n"), 400),
    "chunk size with 0x": (chunked(b"0x5\r\n12345\r\n0\r\n\r\n"), 400),
    "chunk size in Arabic digits": (chunked("\u0665\r\n12345\r\n0\r\n\r\n".encode()), 400),
    "chunk size of 2^64": (chunked(b"10000000000000000\r\n"), 400),
    "chunk size empty": (chunked(b"\r\n12345\r\n0\r\n\r\n"), 400),
    "chunk longer than said": (chunked(b"3\r\n12345\r\n0\r\n\r\n"), 400),
    "chunk without CRLF": (chunked(b"3\r\n1230\r\n\r\n"), 400),
    "chunk with LF only": (chunked(b"3\n123\n0\n\n"), 400),
    "chunks over the limit": (chunked(b"3e8\r\n" + b"x" * 1000 + b"\r\n" + b"1\r\nx\r\n0\r\n\r\n"), 413),
    "101 headers": (get(*[b"X-%d: y" % number for number in range(100)]), 431),
    "10000 headers": (get(*[b"X: y"] * 10_000), 431),
    "a header of 1 MB": (get(b"X: " + b"y" * 1_000_000), 431),
    "a header name of 1 MB": (get(b"y" * 1_000_000 + b": x"), 431),
    "a target of 1 MB": (get(target=b"/" + b"y" * 1_000_000), 431),
    "a head over 16 KiB": (get(*[b"X-%02d: " % number + b"y" * 400 for number in range(45)]), 431),
    "Expect something else": (post(b"Expect: 200-maybe", b"Content-Length: 5"), 417),
    "upgrade with a body": (upgrade(content_length=b"5") + b"12345", 400),
    "upgrade with a request as its body": (upgrade(content_length=b"%d" % len(SECOND)) + SECOND, 400),
    "upgrade with chunks": (upgrade(transfer_encoding=b"chunked") + b"0\r\n\r\n" + SECOND, 400),
    "upgrade to h2c with a body": (get(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5") + b"12345", 400),
}

HANDSHAKES = {
    # an upgrade that is refused: (bytes, status)
    "POST": (upgrade().replace(b"GET", b"POST", 1), 400),
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0", 1), 400),
    "no version": (upgrade(sec_websocket_version=b""), 426),
    "version 8": (upgrade(sec_websocket_version=b"8"), 426),
    "version 13 and more": (upgrade(sec_websocket_version=b"13, 8"), 426),
    "version 0x0d": (upgrade(sec_websocket_version=b"0x0d"), 426),
    "no key": (upgrade(sec_websocket_key=b""), 400),
    "short key": (upgrade(sec_websocket_key=b"AAAA"), 400),
    "long key": (upgrade(sec_websocket_key=KEY[:-2] + b"AAAA=="), 400),
    "key not base64": (upgrade(sec_websocket_key=b"!GhlIHNhbXBsZSBub25jZQ=="), 400),
    "two keys": (upgrade(x=b"y\r\nSec-WebSocket-Key: " + KEY), 400),
    "empty subprotocol": (upgrade(sec_websocket_protocol=b"a,,b"), 400),
    "subprotocol with a space": (upgrade(sec_websocket_protocol=b"a b"), 400),
    "subprotocol twice": (upgrade(sec_websocket_protocol=b"a, a"), 400),
    "foreign origin": (upgrade(origin=b"http://evil.example"), 403),
    "origin null": (upgrade(origin=b"null"), 403),
    "two origins": (upgrade(origin=b"http://test.example\r\nOrigin: http://evil.example"), 403),
}


def settings() -> ListenerSettings:
    return ListenerSettings(port=0, body_bytes=1000)


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_is_refused_once_and_ends_the_connection(name: str) -> None:
    data, status = MALFORMED[name]
    async with listening(settings()) as server, connect(server) as client:
        client.send(data + b"\r\n\r\n" + SECOND)
        got, head, _ = await client.response()
        assert got == status
        assert b"connection: close" in head
        assert await client.rest() == b""
        assert len(server.lines) == 1
        statistics = server.listener.statistics()
        assert statistics.requests_refused == 1
        assert (statistics.answers, statistics.websockets_opened) == (0, 0)


@pytest.mark.parametrize("name", [name for name in MALFORMED if "1 MB" not in name and "10000" not in name])
async def test_it_does_not_matter_how_it_is_cut(name: str) -> None:
    data, status = MALFORMED[name]
    async with listening(settings()) as server, connect(server) as client:
        pieces = [data[start : start + 7] for start in range(0, min(len(data), 2000), 7)] + [data[2000:]]
        await client.send_cut([*pieces, b"\r\n\r\n" + SECOND])
        assert (await client.response())[0] == status
        assert server.listener.statistics().answers == 0


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_a_bad_handshake_is_refused_before_the_gateway_hears_of_it(name: str) -> None:
    data, status = HANDSHAKES[name]
    async with listening() as server, connect(server) as client:
        client.send(data + frame(1, b"x") + SECOND)
        got, head, _ = await client.response()
        assert got == status
        assert (b"sec-websocket-version: 13" in head) == (status == 426)
        assert await client.rest() == b""
        assert server.recorders == []
        assert server.listener.statistics().handshakes_refused == 1


async def test_a_bad_request_waits_for_the_answers_before_it() -> None:
    async with listening() as server, connect(server) as client:
        client.send(SECOND + SECOND + b"nonsense\r\n\r\n" + SECOND)
        answers = [await client.response() for _ in range(3)]
        assert [answer[0] for answer in answers] == [200, 200, 400]
        assert await client.rest() == b""


async def test_a_good_client_is_served_beside_every_bad_one() -> None:
    async with listening(settings()) as server, connect(server) as good:
        for data, _ in MALFORMED.values():
            async with connect(server) as bad:
                bad.send(data)
                await asyncio.wait_for(bad.reader.read(1), 10)
            good.send(SECOND)
            assert (await good.response())[2] == b"GET /second 0"
