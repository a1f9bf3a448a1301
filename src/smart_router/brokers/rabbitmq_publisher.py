"""Publishing: mandatory, confirmed, pipelined, bounded.

put ─► lane OPEN ──────────────► publish ─► confirm ─► done
        │ COLD: one goes ahead       └► returned: no queue ─► it is made, published again, later ones behind it
        └► the others wait for its confirm
connection lost: what has no confirm is published again, marked as repeated; after some seconds it is refused
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from smart_router.amqp import AmqpConnection
from smart_router.brokers.base import Entry, PutDone
from smart_router.brokers.rabbitmq_mailbox import COLD, Lane, Out
from smart_router.brokers.rabbitmq_wire import decode, encode
from smart_router.brokers.slot import SAFE
from smart_router.errors import BrokerAway, Refused, RouterError, StorageFull

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "PATIENCE", "Publisher", "PublisherHost"]

MAX_MESSAGES: Final = 1000
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of what has no confirm yet (faults and limits, C3): beyond it senders get `busy`; of the first, while none comes."""

_SILENCE: Final = 0.5  # s

PATIENCE: Final = 5.0
"""Seconds that what has no confirm waits for RabbitMQ to come back."""

_BUSY: Final = "too many messages wait for RabbitMQ's confirmation: try again later"
_SILENT: Final = "RabbitMQ does not say whether it has made the mailbox's queue: try again later"
_UNKNOWN: Final = "RabbitMQ went away before it confirmed this message, which it may have or not: send it again"


class PublisherHost(Protocol):
    def refuse(self, entry: Entry, error: RouterError, done: PutDone | None) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...

    def ttl(self, entry: Entry) -> int: ...


class Publisher:
    """`make` makes what a lane needs, `exchange` its exchange; `has_exchange`: that one is known to be there."""

    def __init__(
        self,
        connection: AmqpConnection,
        host: PublisherHost,
        *,
        make: Callable[[Lane], Coroutine[Any, Any, None]],
        exchange: Callable[[bytes], Coroutine[Any, Any, None]],
        has_exchange: Callable[[bytes], bool],
    ) -> None:
        self._connection = connection
        self._host = host
        self._make = make
        self._exchange = exchange
        self._has_exchange = has_exchange
        self._channel = connection.channel(
            on_closed=self._on_closed, on_confirm=self._on_confirm, on_return=self._on_return
        )
        self.epoch = 0
        self.count = 0
        self.bytes = 0
        self.confirmed = 0
        self._heard_at = 0.0
        self._ready = False  # the channel is open, and confirms
        self._window: deque[Out] = deque()
        self._stalled: deque[Out] = deque()
        self._again: list[Out] = []
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # In

    def room(self, size: int) -> RouterError | None:
        if self.bytes + size > MAX_BYTES or (self.count >= MAX_MESSAGES and self._is_stuck()):
            return Refused("busy", _BUSY)
        return None

    def _is_stuck(self) -> bool:
        """No confirm comes any more: not just a moment of many messages."""
        if self._stalled or not self._ready:
            return True
        return asyncio.get_running_loop().time() - self._heard_at > _SILENCE

    def refusal(self) -> RouterError | None:
        """Why nothing is taken now."""
        trouble = self._connection.trouble()
        if not trouble:
            return None
        return StorageFull(trouble) if self._connection.up and self._ready else BrokerAway(trouble)

    def put(self, out: Out) -> None:
        self.count += 1
        self.bytes += len(out.body)
        lane = out.lane
        lane.pending += 1
        if lane.held is not None:
            lane.held.append(out)
        elif lane.epoch == self.epoch:
            self._send(out)
        else:
            self._begin(lane, out)

    def _begin(self, lane: Lane, out: Out) -> None:
        if self._has_exchange(lane.exchange):
            lane.held = []
            self._send(out)
        else:
            lane.held = [out]
            self._host.spawn(self._prepare(lane))

    async def _prepare(self, lane: Lane) -> None:
        """Publishing to an exchange that is not there would close the channel."""
        try:
            await self._in_time(self._exchange(lane.exchange))
        except RouterError as error:
            self._fail(lane, error)
            return
        self._probe(lane)

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> None:
        """What RabbitMQ does not answer for long goes on by itself; nobody waits for it."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait((task,), timeout=PATIENCE)
        if not done:
            self._host.spawn(_end_of(task))
            raise BrokerAway(_SILENT)
        task.result()

    def _probe(self, lane: Lane) -> None:
        """The first of what is held goes alone."""
        held, lane.held = lane.held, []
        if held:
            lane.held = held[1:]
            self._send(held[0])
        else:
            lane.held = None

    def _send(self, out: Out) -> None:
        connection = self._connection
        if not self._ready:
            self._again.append(out)
            self._arm()
        elif self._stalled or not connection.writable:
            self._stalled.append(out)
            self._arm()
        else:
            lane = out.lane
            out.seq = self._channel.publish(lane.exchange, lane.key, out.properties, out.body, True)
            lane.unconfirmed += 1
            self._window.append(out)

    def writable(self) -> None:
        """The connection takes more again."""
        while self._stalled and self._connection.writable:
            out = self._stalled.popleft()
            lane = out.lane
            out.seq = self._channel.publish(lane.exchange, lane.key, out.properties, out.body, True)
            lane.unconfirmed += 1
            self._window.append(out)

    # Answers

    def _on_confirm(self, number: int, multiple: bool, ok: bool) -> None:
        window = self._window
        self._heard_at = asyncio.get_running_loop().time()
        if multiple:
            while window and window[0].seq <= number:
                out = window.popleft()
                if not out.confirmed:
                    self._answered(out, ok)
            return
        if not window:
            return
        place = number - window[0].seq
        if not 0 <= place < len(window):
            return
        out = window[place]
        out.confirmed = True
        while window and window[0].confirmed:
            window.popleft()
        self._answered(out, ok)

    def _answered(self, out: Out, ok: bool) -> None:
        lane = out.lane
        lane.unconfirmed -= 1
        if out.returned:
            lane.returned.append(out.again())
            lane.epoch = COLD
            if lane.held is None:
                lane.held = []
        elif ok:
            self.confirmed += 1
            self._forget(out)
            if lane.epoch != self.epoch and not lane.returned:
                self._open(lane)
            if out.done is not None:
                out.done(SAFE)
        else:
            self._refuse(out, Refused("busy", "RabbitMQ could not take the message: try again later"))
            if lane.held is not None and not lane.returned and not lane.unconfirmed:
                self._probe(lane)
        if lane.returned and not lane.unconfirmed:
            self._host.spawn(self._make_again(lane))

    def _open(self, lane: Lane) -> None:
        lane.epoch = self.epoch
        held, lane.held = lane.held, None
        for out in held or ():
            self._send(out)

    def _on_return(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        arrival = decode(properties, body)
        for out in self._window:
            if out.lane.key == routing_key and not out.returned and not out.confirmed and out.properties == properties:
                out.returned = True
                return
        assert arrival is None, "a message was returned that was not published"

    async def _make_again(self, lane: Lane) -> None:
        returned, lane.returned = lane.returned, []
        lane.held = returned + (lane.held or [])
        try:
            await self._in_time(self._make(lane))
        except RouterError as error:
            self._fail(lane, error)
            return
        self._open(lane)

    def _fail(self, lane: Lane, error: RouterError) -> None:
        held, lane.held = [*lane.returned, *(lane.held or ())], None
        lane.returned = []
        lane.epoch = COLD
        for out in held:
            self._refuse(out, error)

    def _refuse(self, out: Out, error: RouterError) -> None:
        self._forget(out)
        lane = out.lane
        if out.entry is not None:
            lane.box.left(len(out.body))
            self._host.refuse(out.entry, error, out.done)
        elif out.done is not None:
            out.done(SAFE._replace(refused={lane.box.address: error}))

    def _forget(self, out: Out) -> None:
        self.count -= 1
        self.bytes -= len(out.body)
        lane = out.lane
        lane.pending -= 1
        if lane.quiet is not None and not lane.pending:
            lane.quiet.set_result(None)
            lane.quiet = None
        if not self.count:
            self._idle.set()

    # Outages

    async def up(self) -> None:
        await self._channel.open()
        await self._channel.confirm_select()
        self._ready = True
        self.epoch += 1
        again, self._again = self._again, []
        lanes = {out.lane: None for out in again}
        for lane in lanes:
            mine = [out for out in again if out.lane is lane]
            lane.held = mine + (lane.held or [])
            self._host.spawn(self._prepare(lane))

    def _on_closed(self, error: RouterError) -> None:
        self._ready = False
        self.epoch += 1
        unknown = [out for out in self._window if not out.confirmed]
        self._window.clear()
        for out in unknown:
            out.lane.unconfirmed = 0
            out.returned = False
            if out.entry is not None:
                message = out.entry.message
                out.properties = encode(
                    message,
                    out.entry.policy.durable,
                    self._host.ttl(out.entry),
                    address=out.lane.box.address,
                    repeated=True,
                )
        self._again = [*self._again, *unknown, *self._stalled]
        self._stalled.clear()
        if self._again:
            self._arm()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if not self._ready:
            waiting, self._again = self._again, []
        elif self._stalled and not self._connection.writable:
            waiting = list(self._stalled)
            self._stalled.clear()
        else:
            return
        for lane in {out.lane: None for out in waiting}:
            self._fail(lane, BrokerAway(_UNKNOWN))
        for out in waiting:
            self._refuse(out, BrokerAway(_UNKNOWN))

    async def settled(self, patience: float) -> None:
        """Returns when everything has its answer, or after so many seconds."""
        if self.count:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), patience)
            except TimeoutError:
                self._give_up()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def _end_of(task: asyncio.Future[None]) -> None:
    await task
