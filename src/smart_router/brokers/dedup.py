"""The dedup window: which message with which key of a sender was accepted, and what was answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from smart_router.brokers.base import PutDone, PutResult

__all__ = ["MAX_KEYS", "WINDOW", "DedupWindow", "Key"]

WINDOW: Final = 120.0
MAX_KEYS: Final = 100_000

Key = tuple[str, str]
"""(sender, the sender's `options.id`)"""


class _First:
    """A message on its way: what to do for its repeats when its answer is known."""

    __slots__ = ("repeats",)

    def __init__(self) -> None:
        self.repeats: list[PutDone] = []


class DedupWindow:
    """Answers of accepted messages, for `window` seconds, at most `limit` of them: then the oldest go."""

    def __init__(self, window: float = WINDOW, limit: int = MAX_KEYS) -> None:
        self.window = window
        self.limit = limit
        self._answers: OrderedDict[Key, tuple[bytes, float]] = OrderedDict()
        self._first: dict[Key, _First] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, key: Key, now: float) -> bytes | None:
        self._forget_old(now)
        found = self._answers.get(key)
        return found[0] if found is not None else None

    def recall(self, key: Key, now: float) -> bytes | Awaitable[bytes] | None:
        first = self._first.get(key)
        if first is None:
            return self.answer(key, now)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def told(result: PutResult) -> None:
            if future.done():
                return
            if result.refused:
                future.set_exception(next(iter(result.refused.values())))
            else:
                future.set_result(result.answer or b"")

        first.repeats.append(told)
        return future

    def once(
        self, key: Key, answer: bytes, done: PutDone, put: Callable[[PutDone], None], now: Callable[[], float]
    ) -> None:
        """Lets the first with this key `put`, once; `done` gets its result.

        A repeat gets the first one's answer, when that is known; if the first was refused, the repeat is the first.
        """
        known = self.answer(key, now())
        if known is not None:
            done(PutResult({}, known))
            return

        def repeat(result: PutResult) -> None:
            if result.refused:
                self.once(key, answer, done, put, now)
            else:
                done(result)

        def finished(result: PutResult) -> None:
            first = result.answer or answer  # another node may have had it before
            repeats = self.finish(key, first, result, now())
            done(result)
            for told in repeats:
                told(result if result.refused else PutResult({}, first))

        if not self.wait(key, repeat):
            self.begin(key)
            put(finished)

    def begin(self, key: Key) -> None:
        """The first with this key is on its way."""
        self._first[key] = _First()

    def wait(self, key: Key, repeat: PutDone) -> bool:
        """True: the first is on its way, `repeat` gets its result."""
        first = self._first.get(key)
        if first is None:
            return False
        first.repeats.append(repeat)
        return True

    def finish(self, key: Key, answer: bytes, result: PutResult, now: float) -> list[PutDone]:
        """The first has its result: remembered when nothing of it was refused. Returns the repeats, to be told."""
        first = self._first.pop(key, None)
        if not result.refused:
            self.remember(key, answer, now)
        return first.repeats if first is not None else []

    def remember(self, key: Key, answer: bytes, now: float) -> None:
        self._answers[key] = (answer, now)
        self._answers.move_to_end(key)
        while len(self._answers) > self.limit:
            self._answers.popitem(last=False)
        self._forget_old(now)

    def _forget_old(self, now: float) -> None:
        answers = self._answers
        while answers:
            key = next(iter(answers))
            if now - answers[key][1] < self.window:
                break
            del answers[key]
