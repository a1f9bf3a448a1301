"""A11: TLS with the same answers as without, old versions and stalled handshakes refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from smart_router.errors import ConfigError
from smart_router.gateways.listener import ListenerSettings
from smart_router.gateways.proxy import PROXY_SIGNATURE
from smart_router.gateways.tls import server_context
from tests.certificates import make_certificate
from tests.gateways.raw import Client, Server, connect, frame, listening, upgrade

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def client_context(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    return context


def settings(certificate: tuple[str, str], **more: float) -> ListenerSettings:
    return ListenerSettings(port=0, tls=server_context(*certificate), head_timeout=more.get("head_timeout", 10.0))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_http_then_websocket_on_one_connection(certificate: tuple[str, str], version: ssl.TLSVersion) -> None:
    async with listening(settings(certificate)) as server, connect(server, ssl=client_context(version)) as client:
        client.send(GET)
        assert (await client.response())[0] == 200
        client.send(upgrade(origin=b"https://test.example") + frame(1, b"echo 1"))
        assert b" 101 " in await client.head()
        assert await client.frame() == (1, b"echo 1")
        for size in (100_000, 3):
            client.send(frame(1, b"echo" + b"x" * size))
            assert await client.frame() == (1, b"echo" + b"x" * size)
        socket_ = server.recorders[0].socket
        assert socket_ is not None
        assert socket_.request.scheme == "https"
        client.send(frame(1, b"x", rsv=0x40))
        assert await client.close_code() == 1002


async def test_a_close_handshake_over_tls(certificate: tuple[str, str]) -> None:
    async with listening(settings(certificate)) as server:
        async with connect(server, ssl=client_context()) as client:
            client.send(upgrade() + frame(8, b"\x03\xe8"))
            await client.head()
            assert await client.close_code() == 1000
        await server.recorders[0].done.wait()
        await server.until(lambda: server.listener.statistics().connections == 0)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
async def test_old_versions_are_refused(certificate: tuple[str, str], version: str) -> None:
    async with listening(settings(certificate)) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connect(server, ssl=client_context(ssl.TLSVersion[version])):
                pass
        await server.until(lambda: server.listener.statistics().tls_failed == 1)
        await server.until(lambda: server.listener.statistics().connections == 0)
        assert [line["event"] for line in server.lines] == ["tls_failed"]


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01", GET, b"\0" * 100])
async def test_a_handshake_that_never_ends_is_cut(certificate: tuple[str, str], start: bytes) -> None:
    async with listening(settings(certificate, head_timeout=0.05)) as server, connect(server) as client:
        client.send(start)
        assert b"HTTP" not in await client.rest()
        await server.until(lambda: server.listener.statistics().connections == 0)


@pytest.mark.parametrize("half", [False, True], ids=["closed", "half closed"])
async def test_who_is_gone_before_the_handshake_leaves_nothing(certificate: tuple[str, str], half: bool) -> None:
    async with listening(settings(certificate)) as server:
        tasks = asyncio.all_tasks()
        clients = [socket.create_connection(server.address) for _ in range(20)]
        for client in clients:
            if half:
                client.shutdown(socket.SHUT_WR)
            else:
                client.close()
        await server.until(lambda: server.listener.statistics().tls_failed == 20)
        await server.until(lambda: asyncio.all_tasks() == tasks)
        for client in clients:
            client.close()
        assert [line["event"] for line in server.lines] == ["tls_failed"] * 20
        assert server.listener.statistics().connections == 0


async def test_renegotiation_and_compression_are_off(certificate: tuple[str, str]) -> None:
    context = server_context(*certificate)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_context(*certificate, minimum="1.3").minimum_version == ssl.TLSVersion.TLSv1_3


def test_files_that_are_no_certificate_are_named(certificate: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        server_context("missing.pem", certificate[1])
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    with pytest.raises(ConfigError, match="wrong"):
        server_context(str(wrong), certificate[1])


async def test_a_proxy_header_comes_before_tls(certificate: tuple[str, str]) -> None:
    both = ListenerSettings(
        port=0, tls=server_context(*certificate), proxy_protocol="v2", trusted_proxies=("127.0.0.1",)
    )
    async with listening(both) as server:
        client = await _behind_proxy(server)
        client.send(upgrade())
        assert b" 101 " in await client.head()
        socket_ = server.recorders[0].socket
        assert socket_ is not None
        assert (socket_.request.peer, socket_.request.scheme) == ("192.0.2.7", "https")
        client.writer.close()


async def _behind_proxy(server: Server) -> Client:
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setblocking(False)
    await loop.sock_connect(raw, server.address)
    addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.8") + b"\x12\x34\x01\xbb"
    await loop.sock_sendall(raw, PROXY_SIGNATURE + b"\x21\x11\0\x0c" + addresses)
    reader, writer = await asyncio.open_connection(sock=raw, ssl=client_context(), server_hostname="test.example")
    return Client(reader, writer)
