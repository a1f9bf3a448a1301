"""Dead letters of all nodes: each has those of its own store, unless they share one (Store.shared).

page ─► this store, and each other node's over the bus ─► merged in the order of the ends
replay, purge ─► here, then at one node after the other, until the limit is reached
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

import msgspec

from smart_router.bus.base import MAX_DATA
from smart_router.core.deadletters import DeadLetters, Head, Position, Refusal, position
from smart_router.core.services import Core
from smart_router.errors import StorageError
from smart_router.stores.base import DeadLetter, DeadLetterFilter

__all__ = ["AllDeadLetters", "Outcome", "Page"]

_LOOK: Final = 2.0  # s that a node has to show what it has
_WORK: Final = 60.0  # s that a node has to replay or purge
_ROOM: Final = MAX_DATA - 4096

T = TypeVar("T")
_encode: Final = msgspec.msgpack.Encoder().encode


class _Question(msgspec.Struct, array_like=True):
    where: DeadLetterFilter
    limit: int
    after: Position | None = None
    to: str | None = None
    by: str = ""


class _Heads(msgspec.Struct, array_like=True):
    """`cut`: there are more, which one publication on the bus does not hold."""

    heads: list[Head]
    cut: bool = False


class _Done(msgspec.Struct, array_like=True):
    done: int
    tried: int
    refused: list[Refusal] = []


class Page(NamedTuple):
    """`more`: there are others behind them. `missing`: nodes that did not answer."""

    heads: list[Head]
    more: bool
    missing: list[str]


class Outcome(NamedTuple):
    """`failed`: how many were refused; `refused`: of them as many as can be told."""

    done: int
    failed: int
    refused: list[Refusal]
    missing: list[str]


_question: Final = msgspec.msgpack.Decoder(_Question).decode


class AllDeadLetters:
    """What the HTTP API works on."""

    def __init__(self, core: Core) -> None:
        self._here = DeadLetters(core)
        self._shared = core.store.shared
        self._installation = core.installation
        self._known: list[str] = []
        self._asking = asking = core.installation.asking
        asking.answer("dead-letters", self._asked_page)
        asking.answer("dead-letter", self._asked_one)
        asking.answer("replay", self._asked_replay)
        asking.answer("purge-dead", self._asked_purge)

    async def page(self, where: DeadLetterFilter, after: Position | None, limit: int) -> Page:
        """At most `limit`, the oldest end first. Raises StorageError."""
        answers, missing = await self._look("dead-letters", _Question(where, limit + 1, after), _Heads)
        pages = [_Heads(await self._here.page(where, after, limit + 1)), *answers]
        bound = min((page.heads[-1].position for page in pages if page.cut and page.heads), default=None)
        merged = {head.position: head for page in pages for head in page.heads}
        order = sorted(place for place in merged if bound is None or place <= bound)
        return Page([merged[place] for place in order[:limit]], len(order) > limit or bound is not None, missing)

    async def of_id(self, id_: str) -> tuple[list[DeadLetter], list[str]]:
        """Of each recipient, whole; and the nodes that did not answer. Raises StorageError."""
        answers, missing = await self._look("dead-letter", _Question(DeadLetterFilter(id=id_), 0), list[DeadLetter])
        merged = {position(one): one for letters in [await self._here.of_id(id_), *answers] for one in letters}
        return [merged[place] for place in sorted(merged)], missing

    async def replay(self, where: DeadLetterFilter, limit: int, to: str | None, by: str) -> Outcome:
        """See DeadLetters.replay; the oldest of one node come before those of the next."""
        return await self._work("replay", _Question(where, limit, None, to, by), self._replay_here)

    async def purge(self, where: DeadLetterFilter, limit: int) -> Outcome:
        return await self._work("purge-dead", _Question(where, limit), self._purge_here)

    async def _replay_here(self, asked: _Question) -> _Done:
        replayed = await self._here.replay(asked.where, asked.limit, asked.to, asked.by)
        return _Done(replayed.replayed, replayed.tried, replayed.refused)

    async def _purge_here(self, asked: _Question) -> _Done:
        purged = await self._here.purge(asked.where, asked.limit)
        return _Done(purged, purged)

    # asking the others

    async def _others(self) -> list[str]:
        if self._shared:
            return []
        installation = self._installation
        with contextlib.suppress(StorageError):  # else as it was; who cannot be reached is among the missing
            nodes = await installation.directory.nodes()
            self._known = [node.id for node in nodes if node.id != installation.me.id]
        return self._known

    async def _look(self, topic: str, question: _Question, type_: type[T]) -> tuple[list[T], list[str]]:
        """What the others have, and those of them that did not say."""
        nodes = await self._others()
        data = _encode(question)
        answers = await asyncio.gather(*[self._asking.ask(node, topic, data, _LOOK) for node in nodes])
        found = [msgspec.msgpack.decode(answer, type=type_) for answer in answers if answer is not None]
        return found, [node for node, answer in zip(nodes, answers, strict=True) if answer is None]

    async def _work(self, topic: str, question: _Question, here: Callable[[_Question], Awaitable[_Done]]) -> Outcome:
        results, missing = [await here(question)], list[str]()
        for node in await self._others():
            left = question.limit - sum(result.tried for result in results)
            if left <= 0:
                break
            asked = msgspec.structs.replace(question, limit=left)
            answer = await self._asking.ask(node, topic, _encode(asked), _WORK)
            if answer is None:
                missing.append(node)
            else:
                results.append(msgspec.msgpack.decode(answer, type=_Done))
        done = sum(result.done for result in results)
        failed = sum(result.tried - result.done for result in results)
        return Outcome(done, failed, [one for result in results for one in result.refused], missing)

    # asked by another

    async def _asked_page(self, node: str, data: bytes) -> bytes:
        asked = _question(data)
        heads, cut = await self._here.page(asked.where, asked.after, asked.limit), False
        while len(answer := _encode(_Heads(heads, cut))) > _ROOM:
            heads, cut = heads[: len(heads) // 2], True
        return answer

    async def _asked_one(self, node: str, data: bytes) -> bytes | None:
        answer = _encode(await self._here.of_id(_question(data).where.id or ""))
        return answer if len(answer) <= _ROOM else None

    async def _asked_replay(self, node: str, data: bytes) -> bytes:
        return _fitting(await self._replay_here(_question(data)))

    async def _asked_purge(self, node: str, data: bytes) -> bytes:
        return _fitting(await self._purge_here(_question(data)))


def _fitting(result: _Done) -> bytes:
    while len(answer := _encode(result)) > _ROOM:
        result.refused = result.refused[: len(result.refused) // 2]
    return answer
