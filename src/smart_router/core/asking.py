"""Questions from node to node, over the bus.

ask_all("resume", data) ──► every other node: its answerer ──► bytes, or None: not me ──► the answers that came in time
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from smart_router.bus.base import Bus

__all__ = ["Answerer", "Asking"]

Answerer = Callable[[str, bytes], Awaitable[bytes | None]]
"""(asking node, data) to the answer; None: it has nothing to say. What it raises is logged, and counts as None."""

_log = structlog.get_logger("smart_router.installation")
_TIMEOUT: Final = 1.0
_MAX_ANSWERING: Final = 1000  # questions at a time; beyond, the asker hears nothing


class _Question(msgspec.Struct, array_like=True):
    number: int
    topic: str
    data: bytes


class _Answer(msgspec.Struct, array_like=True):
    number: int
    data: bytes | None


class _Asked:
    """What is still awaited of one question."""

    __slots__ = ("answers", "awaited", "done", "first")

    def __init__(self, awaited: int, first: bool, done: asyncio.Future[None]) -> None:
        self.awaited = awaited
        self.first = first
        self.done = done
        self.answers: list[bytes] = []

    def add(self, data: bytes | None) -> None:
        self.awaited -= 1
        if data is not None:
            self.answers.append(data)
        if (self.awaited <= 0 or (self.first and self.answers)) and not self.done.done():
            self.done.set_result(None)


_encode: Final = msgspec.msgpack.Encoder().encode
_question: Final = msgspec.msgpack.Decoder(_Question).decode
_answer: Final = msgspec.msgpack.Decoder(_Answer).decode


class Asking:
    """Answers are lost like all else on the bus: then the asker goes on without them, after its time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._answerers: dict[str, Answerer] = {}
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        bus.listen("ask", self._on_question)
        bus.listen("answer", self._on_answer)

    def answer(self, topic: str, answerer: Answerer) -> None:
        """Questions of this topic are answered by `answerer`."""
        self._answerers[topic] = answerer

    async def ask(self, node: str, topic: str, data: bytes, timeout: float = _TIMEOUT) -> bytes | None:
        """The node's answer; None when it has nothing to say, or does not say it in time."""
        answers = await self._wait(_Asked(1, True, self._future()), node, topic, data, timeout)
        return answers[0] if answers else None

    async def ask_all(self, topic: str, data: bytes, nodes: int, timeout: float = _TIMEOUT) -> list[bytes]:
        """The answers of `nodes` other nodes, as far as they come in time."""
        if nodes <= 0:
            return []
        return await self._wait(_Asked(nodes, False, self._future()), None, topic, data, timeout)

    async def ask_any(self, topic: str, data: bytes, nodes: int, timeout: float = _TIMEOUT) -> bytes | None:
        """The first answer of `nodes` other nodes that is one."""
        if nodes <= 0:
            return None
        answers = await self._wait(_Asked(nodes, True, self._future()), None, topic, data, timeout)
        return answers[0] if answers else None

    @staticmethod
    def _future() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    async def _wait(self, asked: _Asked, node: str | None, topic: str, data: bytes, timeout: float) -> list[bytes]:
        number = next(self._numbers)
        self._asked[number] = asked
        question = _encode(_Question(number, topic, data))
        try:
            if node is None:
                self._bus.publish("ask", question)
            else:
                self._bus.send(node, "ask", question)
            async with asyncio.timeout(timeout):
                await asked.done
        except TimeoutError:
            _log.debug("question_unanswered", topic=topic, missing=asked.awaited)
        finally:
            del self._asked[number]
        return asked.answers

    def _on_question(self, node: str, data: bytes) -> None:
        question = _question(data)
        if len(self._tasks) >= _MAX_ANSWERING:
            return
        task = asyncio.get_running_loop().create_task(self._reply(node, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, node: str, question: _Question) -> None:
        answerer = self._answerers.get(question.topic)
        answer = None
        try:
            if answerer is not None:
                answer = await answerer(node, question.data)
        except Exception:  # noqa: BLE001 - the asker waits; our log has the trace
            _log.exception("question_failed", topic=question.topic)
        self._bus.send(node, "answer", _encode(_Answer(question.number, answer)))

    def _on_answer(self, node: str, data: bytes) -> None:
        answer = _answer(data)
        asked = self._asked.get(answer.number)
        if asked is not None:
            asked.add(answer.data)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
