"""What an AMQP operation costs our process: the codec by itself, then over a socket to a real RabbitMQ.

    .venv/bin/python -m benchmarks.amqp [amqp://guest:guest@127.0.0.1:5672/]

CPU time of this process in µs an operation, median of five; the broker's own is not in it. 256-byte bodies, properties
as a mailbox's message has them, 1,000 publications in flight, acknowledgements once a turn of the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random

import uvloop

from smart_router.amqp import AmqpConnection, AmqpUrl, Channel, Properties, decode_properties, encode_properties
from smart_router.protocols.amqp import Encoder
from smart_router.protocols.amqp_decoder import Decoder, Got, OnDeliver
from smart_router.protocols.amqp_methods import Method

__all__ = ["main"]

COUNT = 50_000
REPEATS = 5
IN_FLIGHT = 1_000
BODY = b"x" * 256
PROPERTIES = Properties(2, "0123456789abcdef", "talk", {"from": "ui/1/a"}, expiration="86400000")
RAW = encode_properties(PROPERTIES)


class Nobody:
    """A receiver that does nothing."""

    def __init__(self) -> None:
        self.consumers: dict[bytes, OnDeliver] = {}

    def stray(self, tag: int, again: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes) -> None:
        pass

    def confirm(self, number: int, multiple: bool, ok: bool) -> None:
        pass

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        pass

    def got(self, got: Got, properties: bytes, body: bytes) -> None:
        pass

    def method(self, method: Method) -> None:
        pass


def show(name: str, run: Callable[[], object], each: int = 1) -> None:
    """`each`: operations in one run."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(COUNT // each):
            run()
        times.append((time.process_time() - start) / COUNT * 1e6)
    print(f"{name:<44} {statistics.median(times):6.2f} µs")


def codec() -> None:
    encoder, decoder = Encoder(1), Decoder({1: Nobody()})
    head = struct.pack(">HHB", 60, 60, 1) + b"1" + bytes(9) + b"\x05agent\x0fagent/456/alice"
    content = encoder.publish(b"", b"", RAW, BODY, False)
    delivery = struct.pack(">BHI", 1, 1, len(head)) + head + content[content.index(b"\xce\x02\x00\x01") :]
    deliveries, confirms = delivery * 100, encoder.ack(1, False) * 100
    show("encode a publication", lambda: encoder.publish(b"agent", b"agent/456/alice", RAW, BODY, True))
    show("encode an acknowledgement", lambda: encoder.ack(7, False))
    show("decode a delivery", partial(decoder.receive, deliveries), 100)
    show("decode a confirm", partial(decoder.receive, confirms), 100)
    show("encode properties", lambda: encode_properties(PROPERTIES))
    show("decode properties", lambda: decode_properties(RAW))


class Session:
    """Publishes and takes back as fast as it can."""

    def __init__(self, connection: AmqpConnection) -> None:
        self.channel: Channel = connection.channel(on_closed=print, on_confirm=self._confirm)
        self.waiting: dict[int, None] = {}
        self.taken = 0
        self._last = 0
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def _confirm(self, number: int, multiple: bool, ok: bool) -> None:
        for one in [one for one in self.waiting if one <= number] if multiple else [number]:
            del self.waiting[one]
        self._woken.set()

    async def publish(self, queue: bytes) -> None:
        sent = 0
        while sent < COUNT or self.waiting:
            while sent < COUNT and len(self.waiting) < IN_FLIGHT:
                self.waiting[self.channel.publish(b"", queue, RAW, BODY)] = None
                sent += 1
            self._woken.clear()
            await self._woken.wait()

    def deliver(self, tag: int, again: bool, exchange: bytes, routing_key: bytes, raw: bytes, body: bytes) -> None:
        if not self._last:
            self._loop.call_soon(self._acknowledge)
        self._last = tag
        self.taken += 1
        if self.taken == COUNT:
            self._woken.set()

    def _acknowledge(self) -> None:
        self.channel.ack(self._last, multiple=True)
        self._last = 0

    async def take(self, queue: str) -> None:
        self.taken = 0
        self._woken.clear()
        tag = await self.channel.consume(queue, self.deliver)
        await self._woken.wait()
        await self.channel.cancel(tag)


async def broker(url: str, kind: str) -> None:
    async def nothing() -> None:
        pass

    connection = AmqpConnection(AmqpUrl(url), "benchmark", Random(), on_up=nothing, on_down=print)
    await connection.open()
    session = Session(connection)
    await session.channel.open()
    await session.channel.confirm_select()
    await session.channel.qos(IN_FLIGHT)
    queue = f"benchmark-{secrets.token_hex(4)}"
    await session.channel.declare_queue(queue, durable=True, arguments={"x-queue-type": kind})
    published, taken = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        await session.publish(queue.encode())
        middle = time.process_time()
        await session.take(queue)
        published.append((middle - start) / COUNT * 1e6)
        taken.append((time.process_time() - middle) / COUNT * 1e6)
    await session.channel.delete_queue(queue)
    await connection.close()
    print(f"{f'publish and confirm, {kind} queue':<44} {statistics.median(published):6.2f} µs")
    print(f"{f'take and acknowledge, {kind} queue':<44} {statistics.median(taken):6.2f} µs")


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "amqp://guest:guest@127.0.0.1:5672/"
    codec()
    for kind in ("classic", "quorum"):
        uvloop.run(broker(url, kind))


if __name__ == "__main__":
    main()
