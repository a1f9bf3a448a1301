"""What all nodes must know: revocations and sub-endpoints. Told when they are made; a newcomer asks for all of them.

revoke, registerNewEndpointId ─► own store ─► bus ─► the others: own store, in force
start, bus back after an outage ─► ask each node ─► what it knows and we do not
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

import msgspec
import structlog

from smart_router.bus.base import Bus
from smart_router.core.asking import Asking
from smart_router.core.revocations import Revocations
from smart_router.core.subendpoints import SubEndpoints
from smart_router.errors import RouterError
from smart_router.stores.base import Revocation, SubEndpoint

__all__ = ["Sharing"]

_log = structlog.get_logger("smart_router.installation")
_PAGE: Final = 500  # of each; a page has to go into one publication of the bus
_encode: Final = msgspec.msgpack.Encoder().encode


class Knowledge(msgspec.Struct, array_like=True):
    """A part of what a node knows. `more`: ask for the next page."""

    revocations: list[Revocation] = []
    sub_endpoints: list[SubEndpoint] = []
    more: bool = False


_decode: Final = msgspec.msgpack.Decoder(Knowledge).decode
_page: Final = msgspec.msgpack.Decoder(int).decode


class Sharing:
    """Keeps this node's revocations and sub-endpoints in step with the others'."""

    def __init__(self, bus: Bus, asking: Asking, revocations: Revocations, subs: SubEndpoints) -> None:
        self._bus = bus
        self._asking = asking
        self._revocations = revocations
        self._subs = subs
        self._tasks: set[asyncio.Future[None]] = set()
        self._in_turn = asyncio.Lock()
        bus.listen("known", self._heard)
        asking.answer("known", self._asked)
        revocations.spread = lambda revocation: self._tell(Knowledge([revocation]))
        subs.spread = lambda sub: self._tell(Knowledge([], [sub]))

    def _tell(self, knowledge: Knowledge) -> None:
        self._bus.publish("known", _encode(knowledge))

    def _heard(self, node: str, data: bytes) -> None:
        knowledge = _decode(data)
        for revocation in knowledge.revocations:
            self._revocations.apply(revocation)  # cuts sessions now, whatever the store does
        self._run(self._learn(knowledge))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _learn(self, knowledge: Knowledge) -> None:
        """Each is in force, whatever the store says of it or of another."""
        async with self._in_turn:
            for revocation in knowledge.revocations:
                await self._remembered(self._revocations.learn(revocation))
            for sub in knowledge.sub_endpoints:
                await self._remembered(self._subs.learn(sub))

    @staticmethod
    async def _remembered(learning: Awaitable[None]) -> None:
        try:
            await learning
        except RouterError as error:
            _log.error("not_remembered_from_another_node", error=error.message)

    async def _asked(self, node: str, data: bytes) -> bytes:
        start = _page(data) * _PAGE
        revocations, subs = self._revocations.known(), self._subs.known()
        part = slice(start, start + _PAGE)
        more = max(len(revocations), len(subs)) > start + _PAGE
        return _encode(Knowledge(revocations[part], subs[part], more))

    async def catch_up(self, nodes: list[str]) -> None:
        """Learns what these nodes know; who does not answer is passed over."""
        for node in nodes:
            page, more = 0, True
            while more:
                answer = await self._asking.ask(node, "known", _encode(page))
                if answer is None:
                    break
                knowledge = _decode(answer)
                await self._learn(knowledge)
                page, more = page + 1, knowledge.more

    async def close(self) -> None:
        """What was heard is remembered."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
