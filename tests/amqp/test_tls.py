"""amqps:// to a real RabbitMQ behind a server of ours that ends TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smart_router.errors import BrokerAway, ConfigError
from tests.amqp.bench import User, place, using
from tests.certificates import make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def tls_in_front(amqp: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*place(amqp))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def server_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def works(url: str) -> None:
    async with using(url) as user:
        line = await user.line()
        queue = await user.queue(line)
        await line.channel.consume(queue, line.deliver)
        body = bytes(300_000)
        line.send(queue, b"small", body)
        assert await line.has(2) == [b"small", body]


async def test_with_our_authority(amqp: str, certificate: tuple[str, str]) -> None:
    async with tls_in_front(amqp, server_context(certificate)) as port:
        await works(f"amqps://guest:guest@localhost:{port}/?cacertfile={certificate[0]}")
        named = f"amqps://guest:guest@127.0.0.1:{port}/?cacertfile={certificate[0]}&server_name_indication=localhost"
        await works(named)
        await works(f"amqps://guest:guest@127.0.0.1:{port}/?verify=verify_none")


async def test_a_certificate_of_ours(amqp: str, certificate: tuple[str, str]) -> None:
    context = server_context(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate[0])
    async with tls_in_front(amqp, context) as port:
        url = f"amqps://guest:guest@localhost:{port}/?cacertfile={certificate[0]}"
        await works(f"{url}&certfile={certificate[0]}&keyfile={certificate[1]}")
        with pytest.raises((ConfigError, BrokerAway)):
            await User(url).connection.open()


async def test_a_certificate_that_is_not_valid_for_us(amqp: str, certificate: tuple[str, str]) -> None:
    async with tls_in_front(amqp, server_context(certificate)) as port:
        with pytest.raises(ConfigError, match="cacertfile"):
            await User(f"amqps://guest:s3cret@localhost:{port}/").connection.open()
        with pytest.raises(ConfigError, match="server_name_indication"):
            await User(f"amqps://127.0.0.1:{port}/?cacertfile={certificate[0]}").connection.open()


async def test_tls_to_a_port_without_and_the_other_way_round(amqp: str, certificate: tuple[str, str]) -> None:
    host, port = place(amqp)
    with pytest.raises((ConfigError, BrokerAway)):
        await User(f"amqps://guest:guest@{host}:{port}/?connection_timeout=1000").connection.open()
    async with tls_in_front(amqp, server_context(certificate)) as secure:
        with pytest.raises((ConfigError, BrokerAway)):
            await User(f"amqp://guest:guest@127.0.0.1:{secure}/?connection_timeout=1000").connection.open()


async def test_a_missing_file_is_named_before_anything_is_tried(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        await User(f"amqps://localhost/?cacertfile={tmp_path}/missing.pem").connection.open()
