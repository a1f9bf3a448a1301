"""The line of an exclusive mailbox: who consumes its queue next, and when.

reader A leaves ─ mark ─► cancel, gives back ascending ─ unmark ─► reader B, which looks now and then, consumes

RabbitMQ's single active consumer is the fence, no more: it would give B what waits before A's messages are back. So B
begins to consume only when nobody does and nothing is on its way back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

from smart_router.amqp import ChannelClosed
from smart_router.brokers.rabbitmq_mailbox import Lane
from smart_router.brokers.rabbitmq_subscription import RabbitSubscription
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.errors import BrokerAway

__all__ = ["BEHIND", "Line"]

BEHIND: Final = 0.3
"""Seconds that who has just left lets the others go first."""

_LOOK: Final = 0.025  # s between two looks whether one's turn has come; later more seldom
_LOOK_SELDOM: Final = 2.0
_SOON: Final = 3.0  # s in which a turn that was asked for comes
_LEAVING: Final = "leaving"  # its reader still gives back
_KEPT: Final = "kept"  # its reader has left, and goes on with what it has


class Consume(Protocol):
    def __call__(self, sub: RabbitSubscription, lane: Lane) -> Coroutine[Any, Any, object]: ...


class Line:
    """Of this node's readers; those of other nodes are seen in RabbitMQ."""

    def __init__(
        self,
        topology: Topology,
        now: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        consume: Consume,
    ) -> None:
        self._topology = topology
        self._now = now
        self._spawn = spawn
        self._consume = consume

    async def take_turn(self, sub: RabbitSubscription, lane: Lane, pause: float = 0.0) -> None:
        """Consumes if it is its turn; else it stands in line, and this returns all the same."""
        if not pause and await self._is_free(sub, lane):
            await self._consume(sub, lane)
        elif not sub.starting:
            sub.starting = True
            self._spawn(self._stand(sub, lane, pause))

    async def _stand(self, sub: RabbitSubscription, lane: Lane, pause: float) -> None:
        since = self._now()
        try:
            await asyncio.sleep(pause)
            while not sub.closed and lane.priority not in sub.taps:
                if await self._is_free(sub, lane):
                    await self._consume(sub, lane)
                    return
                waited = self._now() - since
                await asyncio.sleep(_LOOK if waited < _SOON else min(waited / 10, _LOOK_SELDOM))
        except BrokerAway:
            pass  # with the connection it begins again
        finally:
            sub.starting = False

    async def _is_free(self, sub: RabbitSubscription, lane: Lane) -> bool:
        """Nobody consumes, here or elsewhere, and what the last one had is back."""
        if next((other for other in sub.box.subs if not other.closed), sub) is not sub or sub.box.leaving:
            return False
        topology, queue = self._topology, lane.queue
        state = await topology.state(queue)
        if state is None:
            state = await topology.declare(lane)
        # RabbitMQ counts a consumer that was cancelled as long as it has something unacknowledged.
        if state.consumers and not await topology.is_marked(queue, _KEPT):
            return False
        return not await topology.is_marked(queue, _LEAVING)

    @asynccontextmanager
    async def leaving(self, sub: RabbitSubscription, queue: str, *, something: bool) -> AsyncIterator[None]:
        """Within it the reader cancels and gives `something` back; the next one waits until it is over."""
        kept = bool(sub.held)
        with suppress(BrokerAway, ChannelClosed):
            if something or kept:
                await self._topology.mark(queue, _LEAVING)
            if kept:
                await self._topology.mark(queue, _KEPT)
                self._spawn(self._unmark_kept(sub, queue))
        yield
        with suppress(BrokerAway, ChannelClosed):
            if something or kept:
                await self._topology.unmark(queue, _LEAVING)

    async def _unmark_kept(self, sub: RabbitSubscription, queue: str) -> None:
        while sub.held:  # noqa: ASYNC110 - for a delivery timeout at most, and seldom: a confirmation costs nothing
            await asyncio.sleep(_LOOK)
        with suppress(BrokerAway, ChannelClosed):
            await self._topology.unmark(queue, _KEPT)
