"""Limits that the sender is told of (`refuse`, `drop-newest`): kept by us, with a look at RabbitMQ when it gets close.

`drop-oldest` is RabbitMQ's own (x-max-length, x-max-length-bytes). Its `reject-publish` is not exact on quorum queues.
With several nodes a limit may be passed by what they put at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from smart_router.brokers.base import Entry, Overflow, PutDone
from smart_router.brokers.rabbitmq_mailbox import Box
from smart_router.brokers.rabbitmq_topology import Topology
from smart_router.errors import Refused, RouterError

__all__ = ["Limits", "LimitsHost"]


class LimitsHost(Protocol):
    def publish(self, box: Box, entry: Entry, size: int, done: PutDone | None) -> None: ...

    def refuse(self, entry: Entry, error: RouterError, done: PutDone | None) -> None: ...

    def drop(self, entry: Entry, done: PutDone | None) -> None:
        """To the dead letters, as `overflow`."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...


class Limits:
    def __init__(self, host: LimitsHost, topology: Topology) -> None:
        self._host = host
        self._topology = topology

    def put(self, box: Box, entry: Entry, size: int, done: PutDone | None) -> None:
        policy = entry.policy
        if 0 < policy.max_bytes < size:
            self._reject(entry, done)
        elif policy.overflow is Overflow.DROP_OLDEST:
            self._host.publish(box, entry, size, done)
        elif box.checking is not None:
            box.checking.append((entry, done))
        elif _fits(box, entry, size):
            self._host.publish(box, entry, size, done)
        else:
            box.checking = [(entry, done)]
            self._host.spawn(self._check(box))

    async def _check(self, box: Box) -> None:
        """Once all that was published has arrived, asks how much waits; then decides, in order."""
        try:
            messages = await self._count(box)
        except RouterError as error:
            waiting, box.checking = box.checking or [], None
            for entry, done in waiting:
                self._host.refuse(entry, error, done)
            return
        box.counted(messages)
        waiting, box.checking = box.checking or [], None
        for entry, done in waiting:
            size = entry.message.size
            if _fits(box, entry, size):
                self._host.publish(box, entry, size, done)
            else:
                self._reject(entry, done)

    async def _count(self, box: Box) -> int:
        messages = 0
        for lane in list(box.lanes.values()):
            if lane.pending:
                lane.quiet = lane.quiet or asyncio.get_running_loop().create_future()
                await asyncio.shield(lane.quiet)
            state = await self._topology.state(lane.queue)
            messages += state.messages if state is not None else 0
        return messages

    def _reject(self, entry: Entry, done: PutDone | None) -> None:
        if entry.policy.overflow is Overflow.REFUSE:
            error = Refused("mailbox_full", f"{entry.address} is full: try again later", address=entry.address)
            self._host.refuse(entry, error, done)
        else:
            self._host.drop(entry, done)


def _fits(box: Box, entry: Entry, size: int) -> bool:
    policy = entry.policy
    if policy.max_messages and box.count >= policy.max_messages:
        return False
    return not policy.max_bytes or box.bytes + size <= policy.max_bytes
