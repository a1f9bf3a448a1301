"""The proxy knows AMQP frames: their names in any cut, and a connection ends at any of them; a real broker's too."""

import asyncio
import random
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header, heartbeat

from faults.amqp_frames import CutAt, FrameReader, Place
from faults.proxy import Proxy

__all__: list[str] = []

PUBLISH = frame.marshal(commands.Basic.Publish(exchange="x", routing_key="k"), 1)
HEADER = frame.marshal(header.ContentHeader(body_size=4), 1)
BODY = frame.marshal(body.ContentBody(b"\xce\x01AM"), 1)
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAMES = [
    (PROTOCOL_HEADER, "protocol-header"),
    (frame.marshal(commands.Connection.StartOk(), 0), "Connection.StartOk"),
    (PUBLISH, "Basic.Publish"),
    (HEADER, "header"),
    (BODY, "body"),
    (frame.marshal(heartbeat.Heartbeat(), 0), "heartbeat"),
    (frame.marshal(commands.Basic.Ack(3, True), 1), "Basic.Ack"),
]


@given(st.lists(st.integers(1, 40)))
def test_names_and_places_do_not_depend_on_the_cuts(cuts: list[int]) -> None:
    data = b"".join(wire for wire, _ in FRAMES)
    reader, found, at = FrameReader(), [], 0
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[at : at + cut])
        at += cut
    assert [name for name, _, _ in found] == [name for _, name in FRAMES]
    assert [data[start:end] for _, start, end in found] == [wire for wire, _ in FRAMES]


@pytest.mark.parametrize(("place", "passed"), [("before", 0), ("middle", len(HEADER) // 2), ("after", len(HEADER))])
@pytest.mark.parametrize("pieces", [1, 5, 1000])
async def test_a_connection_ends_in_the_frame_that_was_named(place: Place, passed: int, pieces: int) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait(await reader.read())
        writer.close()

    cut = CutAt("TO_SERVER header", place, nth=2)
    message = PUBLISH + HEADER + BODY
    sent = message * 3
    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname(), prepare=cut.watch) as proxy:
        for _ in range(2):  # the second connection is let through: once is enough
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for at in range(0, len(sent), pieces):
                writer.write(sent[at : at + pieces])
            writer.write_eof() if cut.happened.is_set() else None
            assert await reader.read() == b""
            writer.close()
        whole = message + PUBLISH
        assert (await got.get())[: len(whole) + passed] == whole + HEADER[:passed]
        assert await got.get() == sent
    assert cut.seen["TO_SERVER body"] == 1 + 3


async def test_the_frames_of_a_real_broker_are_seen(amqp: str) -> None:
    place = urlsplit(amqp)
    watch = CutAt()
    async with Proxy((place.hostname or "", place.port or 5672), prepare=watch.watch) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(PROTOCOL_HEADER)
        async with asyncio.timeout(10):
            await reader.readexactly(7)
        random.choice(list(proxy.connections)).cut()
        writer.close()
    assert watch.seen == {"TO_SERVER protocol-header": 1, "TO_CLIENT Connection.Start": 1}
