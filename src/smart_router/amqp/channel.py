"""One AMQP channel: the hot calls and callbacks, and the calls that wait for an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from smart_router.amqp.base import ChannelClosed, Counters, Message, OnCancel, OnClosed, OnConfirm, OnReturn
from smart_router.amqp.calls import Calls
from smart_router.amqp.link import Link, printable
from smart_router.errors import BrokerAway, StorageError
from smart_router.protocols.amqp import Encoder, FrameError
from smart_router.protocols.amqp_decoder import Got
from smart_router.protocols.amqp_methods import Method

__all__ = ["Channel", "Owner"]

_ANSWER_TIME: Final = 15.0
"""Seconds. A dead connection is noticed by its heartbeats before this."""


class Owner(Protocol):
    """The connection, as its channels see it."""

    counters: Counters

    def link(self) -> Link:
        """BrokerAway: there is none."""


class Channel(Calls):
    """What is called on it reaches the broker in that order.

    Awaitable calls raise ChannelClosed if the broker refuses (the channel is closed then; `open` opens it again) and
    BrokerAway if the connection goes or no answer comes in time. They may be made one after the other without waiting:
    the answers come in their order. ValueError: a name is longer than 255 bytes, or an argument has no AMQP type.
    """

    def __init__(
        self, owner: Owner, on_closed: OnClosed, on_confirm: OnConfirm, on_return: OnReturn, on_cancel: OnCancel
    ) -> None:
        self.is_open = False
        super().__init__()
        self._owner = owner
        self._counters = owner.counters
        self._on_closed = on_closed
        self._on_confirm = on_confirm
        self._on_return = on_return
        self._on_cancel = on_cancel
        self._link: Link | None = None
        self._encoder = Encoder(0)
        self._answers: deque[tuple[str, asyncio.Future[Any]]] = deque()
        self._opening = asyncio.Lock()
        self._goodbye: asyncio.Future[Any] | None = None
        self._sequence = 0

    # -- hot: nothing here waits, or makes a future

    def publish(
        self, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes, mandatory: bool = False
    ) -> int:
        """Its sequence number, from 1 after `confirm_select`. `properties`: from `encode_properties`.

        BrokerAway: the channel is closed. StorageError `busy`: the connection is not `writable`. Nothing was written
        then. ValueError: exchange or routing key is longer than 255 bytes.
        """
        link = self._link
        if link is None or not self.is_open:
            raise BrokerAway("the channel to RabbitMQ is closed")
        if not link.writable:
            raise StorageError(link.blocked or "RabbitMQ takes messages more slowly than they come", "busy")
        link.write(self._encoder.publish(exchange, routing_key, properties, body, mandatory))
        self._counters.published += 1
        self._sequence += 1
        return self._sequence

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """`multiple`: and all before it on this channel; 0 and multiple: all. Does nothing if the channel is closed.

        A tag that is not in flight makes the broker close the channel with 406.
        """
        if self._link is not None:
            self._link.write(self._encoder.ack(delivery_tag, multiple))

    def nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        if self._link is not None:
            self._link.write(self._encoder.nack(delivery_tag, multiple, requeue))

    def reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Without `requeue` it is dead-lettered, if its queue has where to."""
        if self._link is not None:
            self._link.write(self._encoder.reject(delivery_tag, requeue))

    # -- open and close

    async def open(self) -> None:
        """Also again, after it was closed: without consumers, confirms or a limit of prefetch.

        StorageError: too many channels on this connection.
        """
        async with self._opening:
            if self._goodbye is not None:
                await _answer(asyncio.shield(self._goodbye))
            if self._link is None:
                await self._open()

    async def _open(self) -> None:
        link = self._owner.link()
        self._encoder = link.register(self)
        self._link = link
        self._sequence = 0
        try:
            await _answer(self._ask("channel.open"))
        except BaseException:
            self._say_goodbye()
            raise
        self.is_open = True

    async def close(self) -> None:
        """What was not acknowledged goes back to its queues. Does nothing if it is closed."""
        if (goodbye := self._say_goodbye()) is not None:
            await _answer(asyncio.shield(goodbye))

    def _say_goodbye(self) -> asyncio.Future[Any] | None:
        """Deliveries that still come go back to their queues, as those in flight do."""
        if self._link is not None and self._goodbye is None:
            self.is_open = False
            self.consumers.clear()
            self._goodbye = self._ask("channel.close", code=200)
        return self._goodbye

    def _detach(self, error: StorageError) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.release(self._encoder.number)
        self.is_open = False
        self.consumers.clear()
        goodbye, self._goodbye = self._goodbye, None
        if goodbye is not None and not goodbye.done():
            goodbye.set_result(None)
        self._fail(error)

    def _fail(self, error: StorageError) -> None:
        """What was asked gets no answer but this; only our goodbye gets its own."""
        answers, self._answers = self._answers, deque()
        for name, future in answers:
            if future is self._goodbye:
                self._answers.append((name, future))
            elif not future.done():
                future.set_exception(error)

    # -- what the decoder calls

    def stray(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        """For a consumer that has gone: to somebody else."""
        if self._goodbye is None:
            self.nack(tag)

    def confirm(self, number: int, multiple: bool, ok: bool) -> None:
        self._counters.confirmed += 1
        self._on_confirm(number, multiple, ok)

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        self._counters.returned += 1
        self._on_return(code, text, exchange, routing_key, properties, body)

    def got(self, got: Got, properties: bytes, body: bytes) -> None:
        tag, redelivered, exchange, routing_key, messages = got
        message = Message(tag, redelivered, exchange, routing_key, properties, body, messages)
        self._resolve("basic.get", message)

    def method(self, method: Method) -> None:
        handle = _UNASKED.get(method.name)
        if handle is not None:
            handle(self, method)
        else:
            request = method.name.removesuffix("-ok").removesuffix("-empty")
            if method.name == "basic.cancel-ok":
                self.consumers.pop(method["tag"].encode(), None)
            self._resolve(request, method)

    def lost(self, reason: str, ours: bool) -> None:
        """The connection is gone."""
        unasked = self._goodbye is None and not ours
        error = BrokerAway(reason)
        self._detach(error)
        if unasked:
            self._on_closed(error)

    def _resolve(self, request: str, answer: Method | Message) -> None:
        if not self._answers or self._answers[0][0] != request:
            raise FrameError(503, f"an answer to {request}, which was not asked")
        _, future = self._answers.popleft()
        if not future.done():
            future.set_result(answer)

    def _closed_by_broker(self, method: Method) -> None:
        """If both close at the same time, both answer, and the number is free when ours is answered."""
        self._send("channel.close-ok")
        error = ChannelClosed(method["code"], printable(method["text"]))
        if self._goodbye is None:
            self._detach(error)
            self._on_closed(error)
        else:
            self._fail(error)

    def _closed_by_us(self, method: Method) -> None:
        self._resolve("channel.close", method)
        self._detach(StorageError("the channel was closed"))

    def _cancelled_by_broker(self, method: Method) -> None:
        if self.consumers.pop(method["tag"].encode(), None) is not None:
            self._on_cancel(method["tag"])

    # -- calls with an answer

    def _send(self, name: str, **fields: Any) -> None:
        if self._link is not None:
            self._link.write(self._encoder.method(Method(name, **fields)))

    def _ask(self, name: str, **fields: Any) -> asyncio.Future[Any]:
        if self._link is None:
            raise BrokerAway("the channel to RabbitMQ is closed")
        self._send(name, **fields)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append((name, future))
        return future

    async def _call(self, name: str, **fields: Any) -> Any:
        if not self.is_open:
            raise BrokerAway("the channel to RabbitMQ is closed")
        return await _answer(self._ask(name, **fields))

    async def confirm_select(self) -> None:
        """Every `publish` from here on is confirmed; sequence numbers begin at 1."""
        self._sequence = 0
        await self._call("confirm.select")


_UNASKED: Final[dict[str, Callable[[Channel, Method], None]]] = {
    "channel.close": Channel._closed_by_broker,
    "channel.close-ok": Channel._closed_by_us,
    "basic.cancel": Channel._cancelled_by_broker,
}


async def _answer(future: asyncio.Future[Any]) -> Any:
    try:
        async with asyncio.timeout(_ANSWER_TIME):
            return await future
    except TimeoutError:
        raise BrokerAway(f"RabbitMQ gave no answer in {_ANSWER_TIME:.0f} s") from None
