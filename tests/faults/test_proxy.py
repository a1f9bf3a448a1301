"""The proxy: transparent until it is told otherwise, and each fault is seen at both ends as a network shows it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from faults.proxy import Connection, Proxy, Silence

__all__: list[str] = []

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Ends(NamedTuple):
    """A client's end, the server's end, and what is between them."""

    client: Streams
    server: Streams
    connection: Connection


@contextlib.asynccontextmanager
async def proxied() -> AsyncIterator[Ends]:
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()) as proxy:
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        far = await accepted.get()
        client[1].write(b"hello")
        assert await far[0].readexactly(5) == b"hello"
        (connection,) = proxy.some(1.0, random.Random(0))
        try:
            yield Ends(client, far, connection)
        finally:
            client[1].close()
            far[1].close()


async def test_carries_both_directions_and_the_end() -> None:
    async with proxied() as ends:
        data = random.Random(1).randbytes(1 << 20)
        ends.server[1].write(data)
        assert await ends.client[0].readexactly(len(data)) == data
        ends.client[1].close()
        assert await ends.server[0].read() == b""


async def test_one_byte_at_a_time_changes_nothing() -> None:
    async with proxied() as ends:
        ends.connection.trickle = True
        ends.server[1].write(b"abcdefgh" * 50)
        assert await ends.client[0].readexactly(400) == b"abcdefgh" * 50


async def test_a_cut_is_an_end_at_both_ends() -> None:
    async with proxied() as ends:
        ends.connection.cut()
        assert await ends.client[0].read() == b""
        assert await ends.server[0].read() == b""


async def test_a_reset_is_an_error_at_both_ends() -> None:
    async with proxied() as ends:
        ends.connection.reset()
        for reader, _ in (ends.client, ends.server):
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_silence_shows_at_neither_end() -> None:
    async with proxied() as ends:
        ends.connection.silence = Silence.TO_SERVER
        ends.client[1].write(b"lost")
        ends.server[1].write(b"there")
        assert await ends.client[0].readexactly(5) == b"there"
        ends.connection.silence = Silence.BOTH
        ends.client[1].close()
        reading = asyncio.create_task(ends.server[0].read())
        ends.server[1].write(b"into the void")
        await ends.server[1].drain()
        done, _ = await asyncio.wait([reading], timeout=0.05)
        assert not done, "the server's end must not learn that the client has gone"
        ends.connection.cut()
        assert await reading == b"", "what was written into the silence is gone"


async def unread(reader: asyncio.StreamReader) -> bool:
    """Nothing comes for a moment."""
    try:
        await asyncio.wait_for(reader.read(1), 0.05)
    except TimeoutError:
        return True
    return False


async def test_what_is_held_comes_when_the_network_has_healed() -> None:
    async with proxied() as ends:
        ends.connection.hold(Silence.TO_SERVER)
        ends.client[1].write(b"up")
        ends.server[1].write(b"down")
        assert await ends.client[0].readexactly(4) == b"down"
        assert await unread(ends.server[0])
        ends.client[1].write(b" and on")
        ends.client[1].close()
        assert await unread(ends.server[0])
        ends.connection.heal()
        assert await ends.server[0].read() == b"up and on"


async def test_a_reset_is_not_seen_through_a_cut_network() -> None:
    async with proxied() as ends:
        ends.connection.hold()
        ends.client[1].transport.abort()
        assert await unread(ends.server[0])
        ends.connection.heal()
        with contextlib.suppress(ConnectionResetError):
            assert await ends.server[0].read() == b""


async def test_connections_made_while_the_network_is_cut_carry_nothing_before_it_heals() -> None:
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()) as proxy:
        proxy.hold()
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        far = await accepted.get()
        assert await unread(far[0])
        proxy.heal()
        assert await far[0].readexactly(5) == b"hello"
        proxy.hold()
        for end in (writer, far[1]):
            end.close()


async def test_nobody_there_is_a_reset() -> None:
    async with Proxy(("127.0.0.1", 1)) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
