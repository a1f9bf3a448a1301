"""Dead letters of this node's store: looked at, put again into their mailboxes, forgotten.

store ─► page ─► Head …                     what is told of each, without body
store ─► replay ─► Router.publish ─► safe ─► out of the store, unless it has ended again meanwhile
                        └── refused ─► stays
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from smart_router.brokers.base import Entry, PutResult
from smart_router.core.endpoints import Target
from smart_router.core.services import Core
from smart_router.errors import Refused, RouterError
from smart_router.message import NO_OPTIONS, RECEIPTS, Message, Options, decode_envelope
from smart_router.stores.base import DeadLetter, DeadLetterFilter

__all__ = ["DeadLetters", "Head", "Key", "Position", "Refusal", "Replayed", "again", "position"]

Key = tuple[str, str, str]
"""(id, address, type): what makes a dead letter one."""

Position = tuple[int, str, str, str]
"""(ended_at, id, address, type): its place in the order of the ends."""

_BATCH: Final = 100  # letters with their bodies in memory at a time
_MARK: Final = b'"redelivered":true,'


class Head(msgspec.Struct, frozen=True):
    """A dead letter without its body. `size`: bytes of body and attachments."""

    id: str
    address: str
    type: str
    sender: str
    state: str
    reason: str
    at: int
    ended_at: int
    attempts: int
    deliveries: int
    detail: str
    size: int
    attachments: int

    @property
    def position(self) -> Position:
        return self.ended_at, self.id, self.address, self.type


class Refusal(msgspec.Struct, frozen=True):
    """A dead letter that was not put again, and stays."""

    id: str
    address: str
    type: str
    code: str
    message: str
    temporary: bool


class Replayed(NamedTuple):
    replayed: int
    refused: list[Refusal]

    @property
    def tried(self) -> int:
        return self.replayed + len(self.refused)


def position(letter: DeadLetter) -> Position:
    return letter.ended_at, letter.id, letter.address, letter.type


class DeadLetters:
    """Of one store. What it raises is StorageError."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._in_turn = asyncio.Lock()  # what one call has read, another must not put or forget before it

    async def page(self, where: DeadLetterFilter, after: Position | None, limit: int) -> list[Head]:
        """Oldest end first."""
        found: list[Head] = []
        while len(found) < limit:
            wanted = min(_BATCH, limit - len(found))
            letters = await self._store.dead_letters(where, after=after, limit=wanted)
            found += map(_head, letters)
            if len(letters) < wanted:
                break
            after = position(letters[-1])
        return found

    async def of_id(self, id_: str, limit: int = _BATCH) -> list[DeadLetter]:
        """Of each recipient, whole."""
        return await self._store.dead_letters(DeadLetterFilter(id=id_), limit=limit)

    async def replay(self, where: DeadLetterFilter, limit: int, to: str | None, by: str) -> Replayed:
        """Puts the oldest again: at most `limit` are tried. `to`: another address for all of them; `by`: who asks."""
        tried, refused = set[Key](), list[Refusal]()

        async def work(letters: list[DeadLetter]) -> int:
            letters = [one for one in letters if (one.id, one.address, one.type) not in tried]  # ended again just now
            tried.update((one.id, one.address, one.type) for one in letters)
            refused.extend(await self._put_again(letters, to, by))
            return len(letters)

        await self._each(where, limit, work)
        return Replayed(len(tried) - len(refused), refused)

    async def purge(self, where: DeadLetterFilter, limit: int) -> int:
        """Forgets the oldest, at most `limit`; how many."""
        return await self._each(where, limit, lambda letters: self._store.remove_ended(list(map(position, letters))))

    async def _each(
        self, where: DeadLetterFilter, limit: int, work: Callable[[list[DeadLetter]], Awaitable[int]]
    ) -> int:
        """Those that have ended by now, some at a time."""
        now = self._core.clock.wall_ms()
        where = msgspec.structs.replace(where, until=min(where.until or now, now))
        after, left, done = None, limit, 0
        while left > 0:
            async with self._in_turn:
                letters = await self._store.dead_letters(where, after=after, limit=min(_BATCH, left))
                if not letters:
                    break
                done += await work(letters)
            after, left = position(letters[-1]), left - len(letters)
        return done

    async def _put_again(self, letters: Sequence[DeadLetter], to: str | None, by: str) -> list[Refusal]:
        """The refused ones; the others are safe in a mailbox and out of the store."""
        results = await asyncio.gather(*[self._put(letter, to, by) for letter in letters])
        await self._store.remove_ended(
            [position(one) for one, error in zip(letters, results, strict=True) if not error]
        )
        return [_refusal(one, error) for one, error in zip(letters, results, strict=True) if error]

    async def _put(self, letter: DeadLetter, to: str | None, by: str) -> RouterError | None:
        """What it was refused with."""
        safe: asyncio.Future[PutResult] = asyncio.get_running_loop().create_future()
        try:
            target = self._target(letter, to)
            entry = Entry(again(letter, target, self._core.clock.wall_ms()), target.address, target.policy)
            self._core.router.publish(by, [entry], safe.set_result)
            return next(iter((await safe).refused.values()), None)
        except Refused as error:
            return error

    def _target(self, letter: DeadLetter, to: str | None) -> Target:
        if to is None and letter.reason == "route_error":
            raise Refused(
                "no_mailbox",
                f"Its route failed, so it was never meant for a mailbox ({letter.address!r} is where its sender was): "
                "say with `to` where it shall go.",
            )
        return self._core.endpoints.target(letter.address if to is None else to)


def again(letter: DeadLetter, target: Target, now: int) -> Message:
    """The message once more: the same id and body, marked as one that may have come before, its time to live new.

    `Message.at` is now, by which the time to live counts; what the recipient reads is the time of the first accepting.
    """
    options = _options(letter.body)
    ttl = target.endpoint.ttl_ms
    return Message(
        letter.id,
        letter.sender,
        now,
        letter.type,
        _marked(letter),
        letter.attachments,
        4 if options.priority is None else options.priority,
        now + ttl if ttl else 0,
        options.supersede,
        options.id,
        _wants(options),
    )


def _wants(options: Options) -> int:
    """Receipts as before, whose sender learns that the bad end was none; nobody waits for a reply any more."""
    wants = 0
    for name in options.receipt or ():
        wants |= RECEIPTS.get(name, 0)
    return wants


def _options(body: bytes) -> Options:
    try:
        return decode_envelope(body).options
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return NO_OPTIONS


def _marked(letter: DeadLetter) -> bytes:
    """With `redelivered` behind the router's own keys: brokers keep a body, and no mark beside it."""
    head = f'{{"id":"{letter.id}","from":"{letter.sender}","at":'.encode()
    if not letter.body.startswith(head):
        return letter.body
    at, comma, rest = letter.body[len(head) :].partition(b",")
    return letter.body if rest.startswith(_MARK) else head + at + comma + _MARK + rest


def _head(letter: DeadLetter) -> Head:
    return Head(
        letter.id,
        letter.address,
        letter.type,
        letter.sender,
        letter.state,
        letter.reason,
        letter.at,
        letter.ended_at,
        letter.attempts,
        letter.deliveries,
        letter.detail,
        len(letter.body) + sum(map(len, letter.attachments)),
        len(letter.attachments),
    )


def _refusal(letter: DeadLetter, error: RouterError) -> Refusal:
    return Refusal(letter.id, letter.address, letter.type, error.code, error.message, error.temporary)
