"""/dead-letters: what ended badly. List, look, put again, forget; of all nodes that keep their own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
import structlog
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from smart_router.api.caller import Callers
from smart_router.api.cursors import read_cursor, write_cursor
from smart_router.api.queries import Address, Limit, Name, Time, body_of, query_of
from smart_router.core.alldeadletters import AllDeadLetters, Outcome
from smart_router.core.deadletters import Head, Position, Refusal
from smart_router.core.services import Core
from smart_router.errors import Refused
from smart_router.stores.base import DeadLetter, DeadLetterFilter

__all__ = ["dead_letter_routes"]

_log = structlog.get_logger("smart_router.audit")
_ALL = 1 << 53

State = Literal["expired", "dropped", "superseded", "refused", "failed"]
Type = Annotated[str, msgspec.Meta(max_length=65_536)]
Some = Annotated[list["DeadLetterKey"], msgspec.Meta(min_length=1, max_length=100)]


class Where(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that is given must hold. `since`, `until`: of the end, both included."""

    id: Name | None = None
    address: Address | None = None
    sender: Address | None = None
    state: State | None = None
    reason: Name | None = None
    type: Type | None = None
    since: Time = 0
    until: Time = 0

    def filter(self) -> DeadLetterFilter:
        return DeadLetterFilter(**{name: getattr(self, name) for name in Where.__struct_fields__})


class DeadLetterQuery(Where, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    limit: Limit = 100
    cursor: str | None = None


class DeadLetterKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One dead letter; without `address` and `type` all of this id."""

    id: Name
    address: Address | None = None
    type: Type | None = None

    def filter(self) -> DeadLetterFilter:
        return DeadLetterFilter(id=self.id, address=self.address, type=self.type)


class _Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Some | None = None
    where: Where | None = None
    all: bool = False

    def filters(self) -> list[DeadLetterFilter]:
        """Refused `bad_message` unless it is clear which dead letters are meant."""
        if (self.keys is None) == (self.where is None):
            raise Refused("bad_message", "Say which dead letters: either `keys` or `where`.")
        if self.where is None:
            return [key.filter() for key in self.keys or ()]
        if self.where == Where() and not self.all:
            raise Refused("bad_message", "`where` is empty, which means every dead letter: say `all: true` too.")
        return [self.where.filter()]

    def told(self) -> dict[str, Any]:
        """For the log."""
        told: dict[str, Any] = msgspec.to_builtins(self.where if self.where is not None else self.keys)
        return {"where": told} if self.where is not None else {"keys": told}


class Replay(_Choice, frozen=True, forbid_unknown_fields=True):
    """`keys` or `where`; an empty `where` needs `all`. The oldest first, at most `limit` are tried.

    `to`: another address for all of them; needed for those of the reason `route_error`, which have no mailbox.
    """

    limit: Limit = 100
    to: Address | None = None


class Purge(_Choice, frozen=True, forbid_unknown_fields=True):
    """`keys` or `where`; an empty `where` needs `all`."""


class DeadLetterPage(msgspec.Struct, frozen=True):
    """Oldest end first. `cursor`: there are more; ask again with it. `missing_nodes`: did not answer; theirs lack."""

    dead_letters: list[Head]
    cursor: str | None
    missing_nodes: list[str]


class DeadLetterWhole(msgspec.Struct, frozen=True):
    """`message`: as its recipient would have got it (base64 if it is no JSON). `attachments`: base64."""

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
    message: Any
    attachments: list[str]


class DeadLettersOfId(msgspec.Struct, frozen=True):
    """One per recipient."""

    dead_letters: list[DeadLetterWhole]
    missing_nodes: list[str]


class Replayed(msgspec.Struct, frozen=True):
    """`replayed`: are safe in a mailbox, and dead letters no longer. `failed`: were refused, and stay; `refused`: of
    these as many as can be told, and why."""

    replayed: int
    failed: int
    refused: list[Refusal]
    missing_nodes: list[str]


class Purged(msgspec.Struct, frozen=True):
    purged: int
    missing_nodes: list[str]


def dead_letter_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    letters = AllDeadLetters(core)

    @get("/dead-letters", security=[{"token": []}], opt={"query": DeadLetterQuery})
    async def dead_letters(request: Request[Any, Any, Any]) -> DeadLetterPage:
        """The dead letters that the filters allow, oldest end first, without their bodies.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        query = query_of(request, DeadLetterQuery)
        where = query.filter()
        after = read_cursor(query.cursor, ("dead letters", where), Position)
        page = await letters.page(where, after, query.limit)
        cursor = write_cursor(("dead letters", where), page.heads[-1].position) if page.more and page.heads else None
        return DeadLetterPage(page.heads, cursor, page.missing)

    @get("/dead-letters/{id:str}", security=[{"token": []}])
    async def dead_letter(request: Request[Any, Any, Any], id: FromPath[str]) -> DeadLettersOfId:
        """A message's dead letters, one per recipient, with body and attachments.

        Where authentication is on, the token needs the scope `admin`.
        """
        callers.administrator(request)
        found, missing = await letters.of_id(id)
        if not found and not missing:
            raise _none()
        return DeadLettersOfId([_whole(one) for one in found], missing)

    @post("/dead-letters/replay", status_code=200, security=[{"token": []}], opt={"body": Replay})
    async def replay(request: Request[Any, Any, Any]) -> Replayed:
        """Puts dead letters into their mailboxes again: same id, `redelivered`, attempts and time to live new.

        Each is a dead letter until it is safe in the mailbox. Where authentication is on, the token needs the scope
        `admin`.
        """
        identity = callers.administrator(request)
        wanted = await body_of(request, Replay)
        if wanted.to is not None:
            core.endpoints.target(wanted.to)
        results: list[Outcome] = []
        for where in wanted.filters():
            left = wanted.limit - sum(result.done + result.failed for result in results)
            if left > 0:
                results.append(await letters.replay(where, left, wanted.to, identity.subject))
        total = _total(results, wanted)
        _log.info(
            "dead_letters_replayed",
            by=identity.subject,
            replayed=total.done,
            refused=total.failed,
            to=wanted.to,
            **wanted.told(),
        )
        return Replayed(total.done, total.failed, total.refused, total.missing)

    @post("/dead-letters/purge", status_code=200, security=[{"token": []}], opt={"body": Purge})
    async def purge(request: Request[Any, Any, Any]) -> Purged:
        """Forgets dead letters for good.

        Where authentication is on, the token needs the scope `admin`.
        """
        identity = callers.administrator(request)
        wanted = await body_of(request, Purge)
        total = _total([await letters.purge(where, _ALL) for where in wanted.filters()], wanted)
        _log.info("dead_letters_purged", by=identity.subject, purged=total.done, **wanted.told())
        return Purged(total.done, total.missing)

    return [dead_letters, dead_letter, replay, purge]


def _total(results: Iterable[Outcome], wanted: _Choice) -> Outcome:
    """Refused `not_found` if all that was named is not there."""
    results = list(results)
    total = Outcome(
        sum(result.done for result in results),
        sum(result.failed for result in results),
        [one for result in results for one in result.refused],
        sorted({node for result in results for node in result.missing}),
    )
    if wanted.keys is not None and not total.done and not total.failed and not total.missing:
        raise _none()
    return total


def _whole(letter: DeadLetter) -> DeadLetterWhole:
    values = {name: getattr(letter, name) for name in DeadLetterWhole.__struct_fields__[:-2]}
    attachments = [b64encode(one).decode() for one in letter.attachments]
    return DeadLetterWhole(**values, message=_json(letter.body), attachments=attachments)


def _json(body: bytes) -> Any:
    """As it is, not built anew: numbers and the order of keys stay."""
    try:
        body.decode()
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return b64encode(body).decode()
    return msgspec.Raw(body)


def _none() -> Refused:
    return Refused("not_found", "There is no such dead letter (any more).")
