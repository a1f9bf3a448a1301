"""Servers as they are started, seen from their port: configurations, a good client, and what a process costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.gateways.engine_clients import Headers, RawWebSocket, open_websocket, request
from tests.processes import ServerProcess

__all__ = [
    "ADMIN",
    "ENDPOINTS",
    "SECRET",
    "SOCKETIO",
    "TOKENS",
    "GoodClient",
    "check_log",
    "configuration",
    "cpu_seconds",
    "good_client",
    "join",
    "metrics",
    "raw",
    "resident",
]

SOCKETIO = "/socket.io/?EIO=4&transport=websocket"
SECRET = "a-shared-secret-of-more-than-32-bytes-for-tests"
ADMIN = "static-token-of-the-administrator-0123456789"
ENDPOINTS = """
[endpoints.ui]
sub_endpoints = ["456"]
[endpoints.agent]
sub_endpoints = ["456"]
mailbox = "actor+endpoint"

[[routes]]
endpoint = "*"
type = "echo"
publish = [{ to = "ids.default" }]
"""
TOKENS = f"""
[auth]
secret = "{SECRET}"
[[auth.tokens]]
token = "{ADMIN}"
subject = "root"
scope = "admin"
"""
_JWT = "eyJ"


def configuration(folder: Path, *parts: str) -> str:
    """A file of these parts and the endpoints; what `--config` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "smart-router.toml"
    file.write_text("\n".join([*parts, ENDPOINTS]), "utf-8")
    return str(file)


def resident(pid: int) -> int:
    """Bytes of memory in use."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time since its start, of user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def metrics(port: int, token: str | None = None) -> dict[str, float]:
    """Each series of /metrics with its value."""
    headers = (("authorization", f"Bearer {token}"),) if token else ()
    answer = await request(port, "GET", "/metrics", headers=headers)
    assert answer.status == 200, answer
    found = text_string_to_metric_families(answer.body.decode())
    return {f"{sample.name}{sample.labels or ''}": sample.value for family in found for sample in family.samples}


async def raw(port: int, data: bytes, *, end: bool = True) -> bytes:
    """Sends these bytes on a connection of their own; all that comes back until the server closes, or for two seconds.

    `end`: our direction is closed behind them.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        if end and writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(2):
            while piece := await reader.read(65_536):
                answer += piece
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return answer


async def join(socket: RawWebSocket, namespace: str, auth: dict[str, Any]) -> str:
    """The server's answer to CONNECT; the handshake's open packet may still wait in front of it."""
    socket.send(f"40{namespace},{json.dumps(auth)}" if namespace != "/" else f"40{json.dumps(auth)}")
    while True:
        answer = str(await socket.receive())
        if answer[:2] in ("40", "44"):
            return answer


class GoodClient:
    """An actor on the plain protocol that writes to itself and wants every answer and every message back."""

    def __init__(self, socket: RawWebSocket, actor: str) -> None:
        self._socket = socket
        self._actor = actor
        self.exchanged = 0

    async def identify(self, token: str | None = None) -> None:
        self._say(op="identify", actor=self._actor, acks=True, **({"token": token} if token else {}))
        await self._until(lambda frame: frame["op"] == "hello")

    async def exchange(self) -> None:
        """One message to itself; AssertionError when its answer or it does not come in 10 seconds."""
        self.exchanged += 1
        number = self.exchanged
        message = {"ids": {"default": self._actor}, "payload": number}
        self._say(op="send", ref=number, type="echo", message=message)
        missing = {"answer", "deliver"}

        def seen(frame: dict[str, Any]) -> bool:
            if frame["op"] == "answer" and frame["ref"] == number:
                assert "error" not in frame["answer"], frame
                missing.discard("answer")
            elif frame["op"] == "deliver" and frame["message"]["payload"] == number:
                self._say(op="ack", upto=frame["n"])
                missing.discard("deliver")
            return not missing

        await self._until(seen)

    async def keep_on(self, until: asyncio.Event) -> None:
        """Exchanges, one after the other, until the event."""
        while not until.is_set():
            await self.exchange()
            await asyncio.sleep(0.002)

    def _say(self, **frame: Any) -> None:
        self._socket.send(json.dumps(frame))

    async def _until(self, wanted: Any) -> None:
        async with asyncio.timeout(10):
            while not wanted(json.loads(await self._socket.receive())):
                pass


@contextlib.asynccontextmanager
async def good_client(
    port: int, actor: str = "ui/456/good", token: str | None = None, headers: Headers = ()
) -> AsyncIterator[GoodClient]:
    async with open_websocket(port, "/ws", headers) as socket:
        client = GoodClient(socket, actor)
        await client.identify(token)
        yield client


def check_log(server: ServerProcess, secrets: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A7 for a whole run: each line is JSON, values are short and printable, nothing secret, no trace of Python's."""
    text = server.log()
    assert "Traceback (most recent call last)" not in text, text
    assert _JWT not in text
    for secret in (SECRET, ADMIN, *secrets):
        assert secret not in text, f"{secret!r} stands in the log"
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"at", "level", "event"} <= set(line), line
        for value in _texts(line):
            assert value.isprintable(), line
            assert len(value) <= 256, line
    return lines


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
