"""A11 at the server's own port: what `openssl s_client` is given, and what it costs to speak no TLS at all."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificate
from tests.processes import ServerProcess
from tests.security.conftest import running
from tests.security.ports import check_log, raw

__all__: list[str] = []

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of a ClientHello
NO_HANDSHAKE = {
    "plain HTTP": GET,
    "zeros": bytes(100),
    "a hello of nonsense": HELLO + b"x" * 600,
    "half a hello": HELLO,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x10" + bytes(16),
    "SSL 2": b"\x80\x2e\x01\x00\x02" + bytes(43),
    "a long nonsense": b"\xff" * 20_000,
    "nothing": b"",
}
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[ServerProcess]:
    """With TLS; its log has no line that is not JSON, and no traceback (`running`)."""
    certificate, key = make_certificate(folder)
    yield from running(folder, "tls", f'[server.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')


async def healthy(port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(GET)
        return (await reader.read()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def failures(server: ServerProcess) -> list[dict[str, Any]]:
    return [line for line in check_log(server) if line["event"] != "node_ready"]


@pytest.mark.parametrize("data", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
async def test_a_failed_handshake_is_one_line_with_the_peer(secure: ServerProcess, data: bytes) -> None:
    before = len(failures(secure))
    assert b"HTTP" not in await raw(secure.port, data)
    assert await healthy(secure.port)  # and the line, written a turn after the cut, is there
    (line,) = failures(secure)[before:]
    assert (line["event"], line["level"], line["peer"]) == ("tls_failed", "info", "127.0.0.1")


@contextlib.asynccontextmanager
async def s_client(port: int, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert OPENSSL is not None
    process = await asyncio.create_subprocess_exec(
        *(OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", "-cipher", "ALL:@SECLEVEL=0", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@needs_openssl
@pytest.mark.parametrize(("version", "served"), [("-tls1", 0), ("-tls1_1", 0), ("-tls1_2", 1), ("-tls1_3", 1)])
async def test_versions(secure: ServerProcess, version: str, served: int) -> None:
    before = len(failures(secure))
    async with s_client(secure.port, version, "-ign_eof") as client:
        answer, _ = await asyncio.wait_for(client.communicate(GET), 10)
    assert answer.count(b"HTTP/1.1 200 ") == served, answer
    assert await healthy(secure.port)
    assert len(failures(secure)) - before == (not served)


@needs_openssl
async def test_renegotiation_is_refused(secure: ServerProcess) -> None:
    async with s_client(secure.port, "-tls1_2") as client:
        assert client.stdin is not None
        assert client.stdout is not None
        async with asyncio.timeout(10):
            await client.stdout.readuntil(b"Extended master secret")  # the handshake is over
            client.stdin.write(b"R\n")
            assert b"no renegotiation" in await client.stdout.read()
    assert await healthy(secure.port)
