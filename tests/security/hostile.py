"""Bytes that nobody should send, from a seed: whole requests, frames and packets, bent a little, for every path."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.gateways.raw import frame, upgrade
from tests.security.ports import SOCKETIO

__all__ = ["connections", "posts"]

PATHS = [b"/", b"/metrics", b"/healthz", b"/readyz", b"/check", b"/revocations", b"/socket.io/", b"/ws", b"/socket.io"]
PATHS += [
    b"/openapi.json",
    b"/..%2f..%2fetc/passwd",
    b"/%00",
    b"/" + b"a" * 4000,
    b"//",
    b"/?" + b"&" * 3000,
    b"/%ff%fe",
]
QUERIES = [b"", b"?EIO=4&transport=polling", b"?EIO=4&transport=websocket", b"?EIO=4&transport=constructor"]
QUERIES += [
    b"?EIO=4&transport=__proto__&sid=constructor",
    b"?EIO=4&transport=polling&sid=" + b"x" * 500,
    b"?EIO[]=4",
    b"?%",
]
QUERIES += [
    b"?EIO=4&EIO=3&transport=polling&transport=websocket",
    b"?EIO=99999999999999999999&transport=polling",
    b"?sid",
]
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"BREW"]
BODIES = [
    b"",
    b"{}",
    b"[" * 3000,
    b'{"a":' * 500,
    b"\xff\xfe\x00",
    b'{"subject":"\\ud800"}',
    b'{"subject":1e999}',
    b"null",
]
SOCKETIO_PACKETS = [
    "40",
    "40/ui/456,",
    '40/ui/456,{"actor":"ui/456/h"}',
    "40/ui/456,[]",
    '40/ui/456,{"actor":{}}',
    "40/__proto__,",
    '40,{"token":5}',
    '42["echo",{"ids":{}}]',
    '42/ui/456,["echo"]',
    '42/ui/456,["__proto__",{}]',
    "42/ui/456,[{}]",
    "42/ui/456,[null,1]",
    "42[]",
    '42/ui/456,1e999["x"]',
    '42/ui/456,99999999999999999999["echo",{}]',
    "43/ui/456,1[]",
    "43/ui/456,[]",
    "41/ui/456,",
    "44/ui/456,{}",
    '451-/ui/456,["echo",{"_placeholder":true,"num":0}]',
    '450-["x",{"_placeholder":true,"num":0}]',
    '451000000000-["x"]',
    '45-["x"]',
    '451-["x",{"_placeholder":true,"num":"0"}]',
    '451-["x",{"_placeholder":true,"num":-1}]',
    '462-["x"]',
    "4",
    "",
    "2",
    "3",
    "2probe",
    "3probe",
    "5",
    "6",
    "1",
    "7",
    "9",
    "x",
    "4" + "2" * 200,
    '42["' + "x" * 70000 + '"]',
    "42" + "[" * 5000,
    '42["echo",{"ids":{"default":"\\ud800"}}]',
    '42/ui/456,["iam","ui/456/h"]',
    '42/ui/456,["iam",{"__class__":1}]',
    '42/ui/456,["refresh",{"token":"x"}]',
    '42["registerNewEndpointId",{}]',
    '42/ui/456,["echo",{"ids":{"default":"ui/456/h"},"payload":' + "[" * 60 + "]" * 60 + "}]",
    '42/ui/456,["echo",NaN]',
    '42/ui/456,["e","a":1]',
]
PLAIN_FRAMES = [
    "{}",
    "[]",
    "null",
    '"x"',
    '{"op":"identify"}',
    '{"op":"identify","actor":"ui/456/h"}',
    '{"op":"identify","actor":5}',
    '{"op":"__class__"}',
    '{"op":"identify","actor":"' + "x" * 5000 + '"}',
    '{"op":"send","type":"echo","message":{}}',
    '{"op":"send","type":"echo","message":{"ids":{}},"ref":1e3}',
    '{"op":"send","type":"echo","message":{"ids":{"default":"ui/456/h"}},"attachments":["!!"]}',
    '{"op":"ack","upto":-1}',
    '{"op":"ack","upto":99999999}',
    '{"op":"ack","n":5}',
    '{"op":"nack","n":1}',
    '{"op":"refresh","token":"x"}',
    '{"op":"ping"}',
    '{"op":"ping"}x',
    '{"op":"send","op":"ping"}',
    '{"op":"identify","actor":"ui/456/h","resume":{"pid":"__proto__","offset":"-1"}}',
    "[" * 5000,
    '{"op":"send","type":"","message":1e999}',
]


def connections(seed: int, count: int) -> Iterator[bytes]:
    """What a connection sends, from its first byte on."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.randrange(5)
        if kind == 0:
            yield chance.randbytes(chance.randrange(1, 2000))
        elif kind == 1:
            yield _bent(chance, _request(chance))
        elif kind == 4:
            target = chance.choice(PATHS) + chance.choice(QUERIES)
            yield upgrade(target, host=b"127.0.0.1") + _frames(chance, SOCKETIO_PACKETS)
        elif kind == 2:
            yield upgrade(SOCKETIO.encode(), host=b"127.0.0.1") + _frames(chance, SOCKETIO_PACKETS)
        else:
            yield upgrade(b"/ws", host=b"127.0.0.1") + _frames(chance, PLAIN_FRAMES)


def posts(seed: int, count: int) -> Iterator[bytes]:
    """Bodies for a polling session."""
    chance = random.Random(seed)
    for _ in range(count):
        packets = [chance.choice(SOCKETIO_PACKETS).encode() for _ in range(chance.randrange(1, 6))]
        yield _bent(chance, chance.choice([b"\x1e", b"\x1e\x1e", b"", b"\n"]).join(packets))


def _request(chance: random.Random) -> bytes:
    body = chance.choice(BODIES)
    lines = [
        chance.choice(METHODS) + b" " + chance.choice(PATHS) + chance.choice(QUERIES) + b" HTTP/1.1",
        b"Host: 127.0.0.1",
    ]
    lines.append(
        chance.choice([b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked", b"Content-Length: 7"])
    )
    lines.append(
        chance.choice([b"Content-Type: application/json", b"X: y", b"Authorization: Bearer \xff", b"Origin: null"])
    )
    lines.append(
        chance.choice([b"Accept: */*", b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Encoding: gzip"])
    )
    return b"\r\n".join([*lines, b"", body])


def _frames(chance: random.Random, texts: list[str]) -> bytes:
    frames = []
    for _ in range(chance.randrange(1, 8)):
        text = chance.choice(texts).encode("utf-8", "surrogatepass")
        kind = chance.randrange(10)
        if kind < 6:
            frames.append(frame(1, text))
        elif kind < 8:
            frames.append(frame(2, chance.randbytes(chance.randrange(300))))
        else:
            opcode = chance.randrange(16)
            frames.append(frame(opcode, text[:200], fin=chance.random() < 0.7, rsv=chance.choice([0, 0, 0x40, 0x10])))
    data = b"".join(frames)
    return data if chance.random() < 0.7 else _bent(chance, data)


def _bent(chance: random.Random, data: bytes) -> bytes:
    """Cut, doubled, or with a few bytes changed; now and then as it was."""
    kind = chance.randrange(4)
    if kind == 0 or not data:
        return data
    place = chance.randrange(len(data))
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + data[place // 2 :]
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)
