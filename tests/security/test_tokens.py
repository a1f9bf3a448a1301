"""A1: every bad token of the table is refused at once, on every gateway and in every namespace; the good are let in.

The server's wall clock stands at the table's time: tests/security/clocked.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.token_samples import AUDIENCE, ISSUER, NOW_MS, SECRET, STATIC, Keys, Sample, samples
from tests.gateways.engine_clients import Closed, open_websocket, poll_session, request
from tests.processes import ServerProcess
from tests.security.clocked import serve_clocked, still
from tests.security.ports import SOCKETIO, check_log, configuration

__all__: list[str] = []

KEYS = Keys()
SAMPLES = samples(KEYS)
BAD = [sample for sample in SAMPLES if sample.code is not None]
GOOD = [sample for sample in SAMPLES if sample.code is None]
NAMESPACES = ["/", "/ui/456", "/agent/456", "/nowhere", "/__proto__"]
NOT_READ = {"huge": 1009, "lone surrogate": 1002}  # no packet at all: the close code
AUTH = f"""
[auth]
secret = "{SECRET}"
jwks = "jwks.json"
algorithms = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
              "ES256", "ES384", "ES512", "EdDSA"]
audience = "{AUDIENCE}"
issuer = "{ISSUER}"
leeway = 2.0
[[auth.tokens]]
token = "{STATIC}"
subject = "bot"
scope = "monitor"
"""


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    (folder / "jwks.json").write_bytes(KEYS.jwks)
    server = serve_clocked(
        ("--config", configuration(folder, AUTH), "--data", str(folder / "data")), folder, still(NOW_MS)
    )
    try:
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
    secrets = [sample.token for sample in SAMPLES if isinstance(sample.token, str) and len(sample.token) > 16]
    check_log(server, secrets)


def connect_packet(namespace: str, sample: Sample) -> str:
    place = "" if namespace == "/" else namespace + ","
    return f"40{place}" if sample.token is None else f'40{place}{{"token":{json.dumps(sample.token)}}}'


def refusal(answer: str, namespace: str) -> dict[str, Any]:
    place = "" if namespace == "/" else namespace + ","
    assert answer.startswith(f"44{place}{{"), answer
    data: dict[str, Any] = json.loads(answer[2 + len(place) :])["data"]
    return data


def agrees(sample: Sample, code: str) -> bool:
    """A token that is no text is a mistake in the packet rather than a bad token."""
    return code == sample.code or (code == "bad_message" and not isinstance(sample.token, str))


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_socketio_over_websocket(server: ServerProcess, namespace: str) -> None:
    for sample in BAD:
        async with open_websocket(server.port, SOCKETIO) as socket:
            await socket.receive()
            socket.send(connect_packet(namespace, sample))
            if sample.name in NOT_READ:
                assert await socket.closed() == NOT_READ[sample.name]
                continue
            assert agrees(sample, refusal(str(await socket.receive()), namespace)["code"]), sample.name


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_socketio_over_polling(server: ServerProcess, namespace: str) -> None:
    for sample in BAD:
        _, session = await poll_session(server.port, "/socket.io/")
        taken = await request(server.port, "POST", session, connect_packet(namespace, sample).encode())
        if sample.name == "huge":
            assert taken.status == 413
            continue
        assert taken.status == 200
        answer = await request(server.port, "GET", session)
        if sample.name in NOT_READ:
            assert answer.status == 400  # the session has ended
        else:
            assert agrees(sample, refusal(answer.body.decode(), namespace)["code"]), sample.name


async def test_socketio_by_header(server: ServerProcess) -> None:
    """A token beside the packet: of the handshake."""
    for sample in by_header(BAD):
        headers = (("authorization", f"Bearer {sample.token}"),)
        try:
            async with open_websocket(server.port, SOCKETIO, headers) as socket:
                await socket.receive()
                socket.send("40/ui/456,")
                assert refusal(str(await socket.receive()), "/ui/456")["code"] == sample.code, sample.name
        except Closed:
            assert "\x00" in sample.token or "\n" in sample.token, sample.name


async def test_plain(server: ServerProcess) -> None:
    for sample in BAD:
        token = {} if sample.token is None else {"token": sample.token}
        frame = json.dumps({"op": "identify", "actor": "ui/456/alice", **token})
        async with open_websocket(server.port, "/ws") as socket:
            await socket.receive()
            socket.send(frame)
            if sample.name == "huge":
                assert await socket.closed() == 1009
                continue
            answer = json.loads(await socket.receive())
            assert answer["op"] == "error", sample.name
            if answer["code"] == "protocol_error":
                assert await socket.closed() in (1002, 1007), sample.name
            else:
                assert answer["code"] == sample.code, sample.name
                assert await socket.closed() == 4401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/metrics", None), ("POST", "/check", b""), ("POST", "/revocations", b'{"subject":"alice"}')],
)
async def test_http(server: ServerProcess, method: str, path: str, body: bytes | None) -> None:
    assert (await request(server.port, method, path, body)).status == 401
    for sample in by_header(BAD):
        headers = (("authorization", f"Bearer {sample.token}"), ("content-type", "application/json"))
        answer = await request(server.port, method, path, body, headers)
        assert answer.status in (400, 401), sample.name
        if answer.status == 401:
            assert json.loads(answer.body)["code"] == sample.code, sample.name
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_good_are_let_in(server: ServerProcess) -> None:
    for sample in GOOD:
        actor = "ui/456/" + ("bot" if sample.token == STATIC else "alice")
        async with open_websocket(server.port, SOCKETIO) as socket:
            await socket.receive()
            socket.send(f'40/,{{"token":{json.dumps(sample.token)}}}')
            assert str(await socket.receive()).startswith('40{"sid":"'), (sample.name, actor)


def by_header(wanted: list[Sample]) -> Iterator[Sample]:
    """Those that a header can carry and that are as bad in one: space around a credential is none of it."""
    for sample in wanted:
        token = sample.token
        if isinstance(token, str) and token and token.strip(" ") == token and len(token) < 10_000 and is_latin(token):
            yield sample


def is_latin(text: str) -> bool:
    try:
        text.encode("utf-8").decode("latin-1")
    except UnicodeError:
        return False
    return True
