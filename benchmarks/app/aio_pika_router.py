"""The same router on aio-pika: our gateway and codec, RabbitMQ by its usual Python client.

Each actor has a durable quorum queue; `echo` is published to that of `ids.default` and confirmed, consumed, emitted and
acknowledged. What it costs more than `--broker amqp://…` is the client library. The queues go a minute after the run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from typing import Any

import aio_pika
import msgspec

from smart_router.gateways.base import BinarySocket
from smart_router.protocols.socketio import ConnectData

__all__ = ["application"]

_ARGUMENTS = {"x-queue-type": "quorum", "x-expires": 60_000}
_WINDOW = 128


class _Auth(msgspec.Struct):
    actor: str


class _Ids(msgspec.Struct):
    default: str


class _Envelope(msgspec.Struct):
    ids: _Ids


_envelope = msgspec.json.Decoder(_Envelope).decode


class Application:
    """gateways.base.BinaryApplication."""

    def __init__(self) -> None:
        self._opening: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self.exchange: aio_pika.abc.AbstractExchange
        self.consuming: aio_pika.abc.AbstractChannel

    def prepare(self, socket: BinarySocket, auth: ConnectData) -> Coroutine[Any, Any, None]:
        return self._ready()

    async def _ready(self) -> None:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        url = os.environ.get("BENCHMARK_AMQP_URL", "amqp://guest:guest@127.0.0.1/")
        connection = await aio_pika.connect(url)
        self.exchange = (await connection.channel(publisher_confirms=True)).default_exchange
        self.consuming = await connection.channel(publisher_confirms=False)
        await self.consuming.set_qos(prefetch_count=_WINDOW)

    def connect(self, socket: BinarySocket, auth: ConnectData) -> Client:
        return Client(self, socket, msgspec.json.decode(auth.auth, type=_Auth).actor)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _queue(actor: str) -> str:
    return f"benchmark.aio-pika.{actor}"


class Client:
    """gateways.base.SocketHandler."""

    def __init__(self, application: Application, socket: BinarySocket, actor: str) -> None:
        self._application = application
        self._socket = socket
        self._actor = actor

    def opened(self) -> None:
        self._application.run(self._subscribe())

    async def _subscribe(self) -> None:
        queue = await self._application.consuming.declare_queue(
            _queue(self._actor), durable=True, arguments=dict(_ARGUMENTS)
        )
        await queue.consume(self._deliver)
        self._socket.emit("hello", b"{}")

    async def _deliver(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self._socket.emit("echo", message.body)
        await message.ack()

    def event(self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        self._application.run(self._publish(bytes(args[0]), ack_id))

    async def _publish(self, body: bytes, ack_id: int | None) -> None:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._application.exchange.publish(message, _queue(_envelope(body).ids.default))
        if ack_id is not None:
            self._socket.acknowledge(ack_id, b'{"status":"queued"}')

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        return False

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        """Nothing here asks for one."""

    def mark(self) -> int:
        return 0

    def confirm(self, mark: int) -> None:
        """Nothing waits for it."""

    def writable(self, ok: bool) -> None:
        """Its clients read."""

    def closed(self, by_client: bool) -> None:
        """Its queue goes by itself."""


application = Application()
