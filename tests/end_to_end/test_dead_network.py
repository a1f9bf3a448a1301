"""A client whose network dies without a sign: what was written into the void is delivered to its next session."""

import asyncio
import random

import pytest

from faults.proxy import Proxy, Silence
from smart_router.client import ClientSettings, connect
from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actors
from tests.end_to_end.conftest import APPS
from tests.processes import ServerProcess

__all__: list[str] = []

CONFIG = APPS / "network.toml"
COUNT = 20
# The quick tests take one of each; the others are the same again.
KINDS = [
    pytest.param(WEBSOCKET, id="websocket"),
    pytest.param(POLLING, id="polling", marks=pytest.mark.slow),
    pytest.param(UPGRADE, id="upgrade", marks=pytest.mark.slow),
]
SILENCES = [
    pytest.param(Silence.BOTH, id="both"),
    pytest.param(Silence.TO_CLIENT, id="down", marks=pytest.mark.slow),
    pytest.param(Silence.TO_SERVER, id="up", marks=pytest.mark.slow),
]
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: smart-router.v1\r\n\r\n"
)


async def go_silent(proxy: Proxy, silence: Silence) -> None:
    """Every connection there is; later ones are not concerned."""
    for connection in proxy.some(1.0, random.Random(0)):
        connection.silence |= silence


def send_news(actors: Actors, url: str, unique: str, to: str) -> list[str]:
    """The ids of what was acknowledged to the sender, all of it."""
    sender = actors.connect(url, f"sender/{unique}")
    numbers = [sender.ask("news", {"ids": {"to": to}, "payload": n}) for n in range(COUNT)]
    answers = [sender.answer(number) for number in numbers]
    assert all(answer["status"] == "queued" for answer in answers)
    return [str(answer["id"]) for answer in answers]


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("transports", KINDS)
@pytest.mark.parametrize("endpoint", ["received", "recovering", "client"])
async def test_the_npm_client(
    actors: Actors, server: ServerProcess, unique: str, endpoint: str, transports: list[str], silence: Silence
) -> None:
    name = f"{endpoint}/{unique}"
    async with Proxy((server.address, server.port)) as proxy:
        place = f"http://127.0.0.1:{proxy.port}"
        away = await asyncio.to_thread(
            actors.connect, place, name, transports=transports, identify=False, auth={"actor": name}
        )
        await asyncio.to_thread(away.receive, "hello")
        away.do("answer", {})
        if transports == UPGRADE:
            away.do("upgraded")
            await asyncio.to_thread(away.expect, "upgraded")
        await go_silent(proxy, silence)
        ids = await asyncio.to_thread(send_news, actors, server.url, unique, name)
        heard: dict[str, bool] = {}
        while len(heard) < COUNT:
            message = await asyncio.to_thread(away.receive, "news")
            assert message["id"] in ids
            assert message["id"] not in heard or message["redelivered"] is True, "a repeat says that it is one"
            heard.setdefault(message["id"], message["payload"])
        assert list(heard) == ids, "in order"
        away.close()


@pytest.mark.slow
async def test_the_python_client(actors: Actors, server: ServerProcess, unique: str) -> None:
    """The SDK on the plain protocol: nothing lost, nothing twice, in order."""
    name = f"received/{unique}"
    settings = ClientSettings(ping_interval=0.5, ping_timeout=0.5, first_delay=0.05)
    async with (
        Proxy((server.address, server.port)) as proxy,
        connect(f"ws://127.0.0.1:{proxy.port}/ws", actor=name, settings=settings) as client,
    ):
        await go_silent(proxy, Silence.BOTH)
        ids = await asyncio.to_thread(send_news, actors, server.url, unique, name)
        heard = [await asyncio.wait_for(client.receive(), 10) for _ in range(COUNT)]
        assert [message.id for message in heard] == ids


async def test_who_never_identifies_and_never_answers(actors: Actors, server: ServerProcess, unique: str) -> None:
    """It is told to go, and nobody else waits until it has gone."""
    reader, writer = await asyncio.open_connection(server.address, server.port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    assert b"whoareyou" in await reader.readuntil(b"}")
    head = await asyncio.wait_for(reader.readexactly(4), 10)
    assert (head[0], int.from_bytes(head[2:], "big")) == (0x88, 4408), "a close frame, and its code"
    assert len(await asyncio.to_thread(send_news, actors, server.url, unique, f"received/{unique}")) == COUNT
    writer.close()
