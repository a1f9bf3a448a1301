"""Who somebody is: tokens that end (A2), a sender's name that cannot be chosen (A4), names of nothing special (A6)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.conftest import StartServer
from tests.gateways.engine_clients import Closed, RawWebSocket, open_websocket, request
from tests.processes import ServerProcess
from tests.security.ports import ADMIN, SECRET, SOCKETIO, TOKENS, check_log, configuration, good_client, join, metrics

__all__: list[str] = []

KEY = OctKey.import_key(SECRET)
WITHIN = 5.0
RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
NAMES = ["__proto__", "constructor", "__class__", "__init__", "__dict__", "__getattr__", "hasOwnProperty", "toString"]
NAMES += [
    "handle",
    "event",
    "opened",
    "closed",
    "self",
    "_handle",
    "route",
    "publish",
    "os.system",
    "",
    " ",
    "\x00",
    "*",
]
NAMES += [
    "error",
    "message",
]
NAMES += ["hello", "whoareyou", "registerNewEndpointId", "x" * 128, "é", "\u202e", "echo ", "ECHO"]


def token(lasting: float, subject: str = "ui/456/alice", **claims: Any) -> str:
    now = int(time.time())  # noqa: TID251  (what an issuer does)
    return jwt.encode({"alg": "HS256"}, {"sub": subject, "iat": now, "exp": now + lasting, **claims}, KEY)


async def identified(socket: RawWebSocket, actor: str, with_token: str | None = None) -> None:
    await socket.receive()
    socket.send(json.dumps({"op": "identify", "actor": actor, **({"token": with_token} if with_token else {})}))
    assert json.loads(await socket.receive())["op"] == "hello"


async def end_of(socket: RawWebSocket) -> tuple[list[str], int | None]:
    """The codes of the errors until the server closes, and the code with which it does."""
    codes = []
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                frame = json.loads(await socket.receive())
                codes.append(frame.get("code", frame["op"]))
    except Closed as closed:
        return codes, closed.code


async def end_of_socketio(socket: RawWebSocket) -> list[str]:
    frames = []
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                frames.append(str(await socket.receive()))
    except Closed:
        return frames


async def revoke(server: ServerProcess, **what: str) -> None:
    headers = (("authorization", f"Bearer {ADMIN}"), ("content-type", "application/json"))
    answer = await request(server.port, "POST", "/revocations", json.dumps(what).encode(), headers)
    assert answer.status == 201, answer


# A2


async def test_a_token_that_ends_ends_its_sessions(guarded: ServerProcess) -> None:
    short = token(2)
    async with open_websocket(guarded.port, "/ws") as plain, open_websocket(guarded.port, SOCKETIO) as socketio:
        await plain.receive()
        plain.send(json.dumps({"op": "identify", "actor": "ui/456/alice", "token": short}))
        assert (await join(socketio, "/agent/456", {"token": token(2, "agent/456/a"), "actor": "agent/456/a"}))[
            :2
        ] == "40"
        codes, closed_with = await end_of(plain)
        assert set(codes[:2]) == {"hello", "token_expiring"}
        assert (codes[2:], closed_with) == (["token_expired"], 4401)
        frames = await end_of_socketio(socketio)
        assert [frame[:2] for frame in frames if frame[:2] == "41"] == ["41"]
        assert "token_expired" in "".join(frames)
    assert (await metrics(guarded.port, ADMIN))["smart_router_tokens_expired_total"] >= 2


async def test_a_revocation_ends_sessions_and_survives_a_restart(
    start_server: StartServer, data_dir: Path, tmp_path: Path
) -> None:
    config = configuration(tmp_path, TOKENS)
    server = await asyncio.to_thread(start_server, "--config", config, "--drain", "0.1")
    alice, bob = token(600, jti="one"), token(600, "ui/456/bob", jti="two")
    async with open_websocket(server.port, "/ws") as first, open_websocket(server.port, SOCKETIO) as second:
        await identified(first, "ui/456/alice", alice)
        assert (await join(second, "/ui/456", {"token": bob, "actor": "ui/456/bob"}))[:2] == "40"
        async with good_client(server.port, "ui/456/carol", token(600, "ui/456/carol")) as carol:
            await revoke(server, subject="ui/456/alice")
            await revoke(server, jti="two")
            assert await end_of(first) == (["revoked"], 4403)
            assert "revoked" in "".join(await end_of_socketio(second))
            await carol.exchange()
    await asyncio.to_thread(server.stop)
    again = await asyncio.to_thread(start_server, "--config", config, "--drain", "0.1", data=data_dir)
    for subject, void in (("alice", alice), ("bob", bob)):
        async with open_websocket(again.port, "/ws") as socket:
            await socket.receive()
            socket.send(json.dumps({"op": "identify", "actor": f"ui/456/{subject}", "token": void}))
            assert await end_of(socket) == (["revoked"], 4403)
    check_log(server)
    check_log(again)


# A4

WHATEVER = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text("abcfrom_", max_size=6), values, max_size=3),
    max_leaves=6,
)
FORGED = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["from", "id", "at", "redelivered", "sender", "FROM"], WHATEVER)
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(forged=FORGED, twice=st.booleans(), socketio=st.booleans())
def test_from_is_always_the_servers(
    server: ServerProcess, loop: asyncio.Runner, forged: dict[str, Any], twice: bool, socketio: bool
) -> None:
    fields = json.dumps({"ids": {"default": "ui/456/reader"}, **forged})
    message = fields[:-1] + ',"from":"ui/456/victim","at":1,"id":"mine"}' if twice else fields
    received = loop.run(carried(server, message, socketio=socketio))
    assert received["from"] == ("ui/456/over-socketio" if socketio else "ui/456/over-plain")
    assert received["id"] != "mine"
    assert received["id"] != forged.get("id")
    assert isinstance(received["at"], int)
    assert received["at"] > 1_600_000_000_000
    assert "redelivered" not in received


async def carried(server: ServerProcess, message: str, *, socketio: bool) -> dict[str, Any]:
    """What a reader gets of it; no key of the router's stands in it twice."""
    async with (
        open_websocket(server.port, "/ws") as reader,
        open_websocket(server.port, SOCKETIO if socketio else "/ws") as sender,
    ):
        await identified(reader, "ui/456/reader")
        if socketio:
            await join(sender, "/ui/456", {"actor": "ui/456/over-socketio"})
            sender.send(f'42/ui/456,["echo",{message}]')
        else:
            await identified(sender, "ui/456/over-plain")
            sender.send(f'{{"op":"send","type":"echo","message":{message}}}')
        frame = str(await reader.receive())
        reader.send('{"op":"ack","upto":1}')
        await answered_ping(reader)
    pairs: list[tuple[str, Any]] = json.loads(frame, object_pairs_hook=list)
    delivered = next(value for key, value in pairs if key == "message")
    keys = [key for key, _ in delivered]
    assert all(keys.count(key) == 1 for key in ("from", "id", "at")), frame
    return dict(delivered)


async def answered_ping(socket: RawWebSocket) -> None:
    """What was sent before it has been dealt with."""
    socket.send('{"op":"ping"}')
    while json.loads(await socket.receive())["op"] != "pong":
        pass


# A6


async def test_a_name_is_looked_up_and_nothing_else(server: ServerProcess) -> None:
    async with open_websocket(server.port, "/ws") as plain, open_websocket(server.port, SOCKETIO) as socketio:
        await identified(plain, "ui/456/names")
        await join(socketio, "/ui/456", {"actor": "ui/456/names-too"})
        assert str(await socketio.receive()).startswith('42/ui/456,["hello"')
        for number, name in enumerate(NAMES):
            frame = {"op": "send", "ref": number, "type": name, "message": {"ids": {}}}
            plain.send(json.dumps(frame))
            answer = json.loads(await plain.receive())
            assert (answer["ref"], answer["answer"]["error"]["code"]) == (number, "no_route"), (name, answer)
            socketio.send(f'42/ui/456,{number}["{json.dumps(name)[1:-1]}",{{"ids":{{}}}}]')
            text = str(await socketio.receive())
            assert text.startswith(f"43/ui/456,{number}["), (name, text)
            assert json.loads(text.partition(",")[2].lstrip("0123456789"))[0]["error"]["code"] == "no_route"


@pytest.mark.parametrize("name", RESERVED)
async def test_a_name_of_the_clients_own_ends_its_connection(server: ServerProcess, name: str) -> None:
    """The Socket.IO library raises these by itself: who sends one is no Socket.IO client. Elsewhere they are names."""
    async with open_websocket(server.port, SOCKETIO) as socketio:
        await join(socketio, "/ui/456", {"actor": f"ui/456/{name}"})
        await socketio.receive()
        socketio.send(f'42/ui/456,1["{name}",{{"ids":{{}}}}]')
        assert await socketio.closed() == 1002
    async with open_websocket(server.port, "/ws") as plain:
        await identified(plain, f"ui/456/{name}")
        plain.send(json.dumps({"op": "send", "ref": 1, "type": name, "message": {"ids": {}}}))
        assert json.loads(await plain.receive())["answer"]["error"]["code"] == "no_route"
