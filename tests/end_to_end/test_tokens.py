"""A2 over both gateways: an expired or revoked token ends a live session; the mailbox stays for who has a new one."""

import asyncio
import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.actors import POLLING, WEBSOCKET, Actor, Actors
from tests.end_to_end.tokens import ADMIN, CONFIG, token
from tests.processes import PROGRAM

__all__ = ["CONFIG"]

DEADLINE = 10
LONG = 3600.0


def name_of(unique: str) -> tuple[str, str]:
    """A subject, and the actor that it may be."""
    return unique, f"ui/456/{unique}"


def join(actors: Actors, url: str, unique: str, given: str, transports: list[str] = WEBSOCKET) -> Actor:
    name = name_of(unique)[1]
    actor = actors.connect(url, name, identify=False, transports=transports, auth={"actor": name, "token": given})
    actor.receive("hello")
    return actor


async def open_plain(url: str, unique: str, given: str) -> tuple[ClientConnection, dict[str, Any]]:
    """A plain connection, and the first frame after `identify`."""
    socket = await connect(url.replace("http", "ws", 1) + "/ws", subprotocols=["smart-router.v1"])  # type: ignore[list-item]
    await socket.recv()
    await socket.send(json.dumps({"op": "identify", "actor": name_of(unique)[1], "token": given, "acks": True}))
    return socket, json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))


async def until_closed(socket: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """What still came, and the close code."""
    async with asyncio.timeout(DEADLINE):
        frames = [json.loads(frame) async for frame in _frames(socket)]
    assert socket.close_code is not None
    return frames, socket.close_code


async def _frames(socket: ClientConnection) -> AsyncIterator[str]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield str(await socket.recv())


def revoke(url: str, **what: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + "/revocations", json.dumps(what).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status in (200, 201)


@pytest.mark.parametrize(
    "given",
    ["", "nonsense", token("somebody", LONG), token("somebody", LONG) + "x", token("other", -60), {"a": 1}, None],
    ids=["empty", "nonsense", "another's", "forged", "expired", "an object", "none"],
)
def test_refused_at_connect(actors: Actors, url: str, given: object) -> None:
    auth = {"actor": "ui/456/other", **({} if given is None else {"token": given})}
    page = actors.connect(url, "ui/456/other", identify=False, auth=auth)
    told = page.expect("connect_error")
    assert told["message"]
    assert str(given) not in told["message"] or not given


@pytest.mark.parametrize(
    "transports",
    [pytest.param(WEBSOCKET, id="websocket"), pytest.param(POLLING, id="polling", marks=pytest.mark.slow)],
)
def test_an_expired_token_ends_the_session(actors: Actors, url: str, unique: str, transports: list[str]) -> None:
    page = join(actors, url, unique, token(unique, 2), transports)
    assert page.receive("error")["code"] == "token_expiring"
    assert page.receive("error")["code"] == "token_expired"
    assert page.expect("disconnect")["reason"] == "io server disconnect"
    again = join(actors, url, unique, token(unique, LONG), transports)
    again.emit("echo", {"ids": {"default": again.id}})
    assert again.receive("echo")["from"] == again.id


@pytest.mark.slow
def test_a_token_refreshed_in_time(actors: Actors, url: str, unique: str) -> None:
    """The session outlives the first token: what is sent after that is still routed."""
    page = join(actors, url, unique, token(unique, 2))
    short = actors.connect(url, f"ui/456/b{unique}", identify=False, auth={"token": token(f"b{unique}", 2)})
    short.identify()
    assert page.receive("error")["code"] == "token_expiring"
    assert page.request("refresh", {"token": token("somebody else", LONG)})["error"]["code"] == "forbidden"
    assert page.request("refresh", {"token": token(unique, LONG)}) == {}
    short.expect("disconnect")
    page.emit("echo", {"ids": {"default": page.id}})
    assert page.receive("echo")["from"] == page.id


@pytest.mark.parametrize("by", ["subject", "jti"])
def test_a_revoked_token_ends_the_session(actors: Actors, url: str, unique: str, by: str) -> None:
    """Within a second; the mailbox keeps what comes meanwhile, for a token that is valid."""
    page = join(actors, url, unique, token(unique, LONG, jti=f"token of {unique}"))
    other = join(actors, url, f"b{unique}", token(f"b{unique}", LONG))
    revoke(url, **({"subject": unique} if by == "subject" else {"jti": f"token of {unique}"}))
    assert page.receive("error", timeout=1)["code"] == "revoked"
    assert page.expect("disconnect", timeout=1)["reason"] == "io server disconnect"
    assert other.request("echo", {"ids": {"default": page.id}, "payload": "meanwhile"})["status"] == "queued"

    refused = actors.connect(
        url,
        page.id,
        identify=False,
        auth={"actor": page.id, "token": token(unique, LONG, jti=f"token of {unique}", iat=1)},
    )
    assert refused.expect("connect_error")["data"]["code"] == "revoked"
    if by == "jti":
        assert join(actors, url, unique, token(unique, LONG)).receive("echo")["payload"] == "meanwhile"


def test_the_command_revokes(actors: Actors, url: str, unique: str) -> None:
    page = join(actors, url, unique, token(unique, LONG))
    command = [str(PROGRAM), "revoke", "--subject", unique, "--url", url, "--token", ADMIN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert page.expect("disconnect")["reason"] == "io server disconnect"
    assert ADMIN not in done.stdout + done.stderr


def test_only_an_administrator_revokes_registers_and_checks(actors: Actors, url: str, unique: str) -> None:
    for path in ("/revocations", "/check"):
        for headers in ({}, {"Authorization": f"Bearer {token(unique, LONG)}"}):
            request = urllib.request.Request(url + path, b'{"subject": "x"}', headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=10)
            assert refused.value.code == (403 if headers else 401)
            refused.value.close()
    ordinary = actors.connect(url, "x", identify=False, namespace="/", auth={"token": token(unique, LONG)})
    ordinary.expect("connect")
    ordinary.emit("registerNewEndpointId", {"name": "ui", "id": "mine"})
    assert ordinary.expect("event")["type"] != "endpointRegistered"
    admin = actors.connect(url, "y", identify=False, namespace="/", auth={"token": ADMIN})
    admin.expect("connect")
    admin.emit("registerNewEndpointId", {"name": "ui", "id": "457"})
    assert admin.receive("endpointRegistered") == {}


async def test_expiry_and_refresh_over_the_plain_protocol(url: str, unique: str) -> None:
    socket, first = await open_plain(url, unique, token(unique, 2))
    frames, code = await until_closed(socket)
    told = [first, *frames]
    assert sorted(frame["op"] for frame in told) == ["error", "error", "hello"]
    assert [frame["code"] for frame in told if frame["op"] == "error"] == ["token_expiring", "token_expired"]
    assert code == 4401

    socket, first = await open_plain(url, unique, token(unique, 2))
    await socket.send(json.dumps({"op": "refresh", "token": token(unique, LONG), "ref": 5}))
    while first["op"] != "answer":
        first = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
    assert first == {"op": "answer", "ref": 5, "answer": {}}
    await socket.close()


async def test_revocation_over_the_plain_protocol(url: str, unique: str) -> None:
    socket, hello = await open_plain(url, unique, token(unique, LONG))
    assert hello["op"] == "hello"
    await asyncio.to_thread(revoke, url, subject=unique)
    frames, code = await until_closed(socket)
    assert [frame["code"] for frame in frames] == ["revoked"]
    assert code == 4403


async def test_refused_over_the_plain_protocol(url: str, unique: str) -> None:
    for given, code in [("nonsense", 4401), (token("somebody", LONG), 4403), (token(unique, -60), 4401)]:
        socket, told = await open_plain(url, unique, given)
        assert told["op"] == "error"
        assert (await until_closed(socket))[1] == code
