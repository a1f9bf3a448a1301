"""/mailboxes and /mailbox: what waits where. An address has slashes, so it is always `?address=`, never in the path."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler

from smart_router.api.caller import Callers
from smart_router.api.cursors import Cursor, read_cursor, write_cursor
from smart_router.api.queries import Address, Limit, Name, Prefix, body_of, query_of
from smart_router.brokers.base import Capability, Entry, MailboxStatistics
from smart_router.core.services import Core
from smart_router.errors import Refused
from smart_router.message import is_address

__all__ = ["MailboxView", "mailbox_routes", "view_of"]

_log = structlog.get_logger("smart_router.audit")
_MAX_BODIES: Final = 100
"""Messages that are shown with their bodies at a time."""

Seen = tuple[str, str]
"""Ids of the last but one shown ("": there was none) and of the last one: what comes after the first must be it."""


class MailboxesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prefix: Prefix = ""
    limit: Limit = 100
    cursor: str | None = None


class MailboxQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: Address


class MessagesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: Address
    limit: Limit = 100
    cursor: str | None = None
    bodies: bool = False


class Requeue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The message `id` that waits for `address` goes to the end of the mailbox of `to`, or of its own without it."""

    address: Address
    id: Name
    to: Address | None = None


class MailboxView(msgspec.Struct, frozen=True):
    """`waiting`, `in_flight`: messages. `subscriptions`: who takes from it, of all nodes as far as the broker tells."""

    address: str
    waiting: int
    in_flight: int
    bytes: int
    subscriptions: int
    durable: bool


class MailboxPage(msgspec.Struct, frozen=True):
    """In the order of the addresses. `cursor`: there are more; ask again with it."""

    mailboxes: list[MailboxView]
    cursor: str | None


class WaitingMessage(msgspec.Struct, frozen=True, rename={"sender": "from"}, omit_defaults=True):
    """`size`: bytes of body and attachments. `expires_at`: ms since 1970 UTC, 0: never. `message`: as its recipient
    gets it, `attachments`: base64; both only if bodies were asked for."""

    id: str
    type: str
    sender: str
    at: int
    size: int
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)]
    expires_at: int
    attempts: int
    deliveries: int
    message: Any = msgspec.UNSET
    attachments: list[str] | msgspec.UnsetType = msgspec.UNSET


class MessagePage(msgspec.Struct, frozen=True):
    """What waits, oldest first; nothing that is in flight. `cursor`: there are more."""

    mailbox: MailboxView
    messages: list[WaitingMessage]
    cursor: str | None


class MailboxPurged(msgspec.Struct, frozen=True):
    """How many are dead letters now, of the state `dropped` and the reason `purged`."""

    purged: int


class MailboxDeleted(msgspec.Struct, frozen=True):
    address: str


class Requeued(msgspec.Struct, frozen=True):
    id: str
    address: str


def view_of(box: MailboxStatistics) -> MailboxView:
    return MailboxView(*box)


def mailbox_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    return [*_looking(core, callers), *_emptying(core, callers), _moving(core, callers)]


def _looking(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    @get("/mailboxes", security=[{"token": []}], opt={"query": MailboxesQuery})
    async def mailboxes(request: Request[Any, Any, Any]) -> MailboxPage:
        """The mailboxes whose addresses begin with `prefix`, and how much is in each.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        query = query_of(request, MailboxesQuery)
        of = ("mailboxes", query.prefix)
        after = read_cursor(query.cursor, of, str) or ""
        found = await core.broker.mailboxes(query.prefix, after, query.limit + 1)
        more = len(found) > query.limit
        cursor = write_cursor(of, found[query.limit - 1].address) if more else None
        return MailboxPage([view_of(box) for box in found[: query.limit]], cursor)

    @get("/mailbox", security=[{"token": []}], opt={"query": MailboxQuery})
    async def mailbox(request: Request[Any, Any, Any]) -> MailboxView:
        """How much is in one mailbox.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        return view_of(await _box(core, query_of(request, MailboxQuery).address))

    @get("/mailbox/messages", security=[{"token": []}], opt={"query": MessagesQuery})
    async def messages(request: Request[Any, Any, Any]) -> MessagePage:
        """What waits in a mailbox, without taking it.

        Where authentication is on, the token needs the scope `monitor` or `admin`, and for `bodies=true` `admin`.
        """
        callers.monitor(request)
        query = query_of(request, MessagesQuery)
        if query.bodies:
            callers.administrator(request)
            if query.limit > _MAX_BODIES:
                raise Refused("bad_message", f"With bodies `limit` is at most {_MAX_BODIES}.", limit=_MAX_BODIES)
        box = await _box(core, query.address)
        await _check_peek(core, box)
        entries, cursor = await _peek(core, query)
        return MessagePage(view_of(box), [_message(entry, query.bodies) for entry in entries], cursor)

    return [mailboxes, mailbox, messages]


def _emptying(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    broker = core.broker

    @delete("/mailbox/messages", status_code=200, security=[{"token": []}], opt={"query": MailboxQuery})
    async def purge(request: Request[Any, Any, Any]) -> MailboxPurged:
        """Ends all that waits in a mailbox; each message is a dead letter then.

        Where authentication is on, the token needs the scope `admin`.
        """
        identity = callers.administrator(request)
        address = query_of(request, MailboxQuery).address
        await _box(core, address)
        purged = await broker.purge(address)
        _log.info("mailbox_purged", by=identity.subject, address=address, purged=purged)
        return MailboxPurged(purged)

    @delete("/mailbox", status_code=200, security=[{"token": []}], opt={"query": MailboxQuery})
    async def remove(request: Request[Any, Any, Any]) -> MailboxDeleted:
        """Purges a mailbox that nobody reads, and removes it.

        Where authentication is on, the token needs the scope `admin`.
        """
        identity = callers.administrator(request)
        address = query_of(request, MailboxQuery).address
        box = await _box(core, address)
        if await _is_read(core, box):
            raise Refused("in_use", f"Sessions read the mailbox of {address!r}: cut them first.", address=address)
        await broker.delete(address)
        _log.info("mailbox_deleted", by=identity.subject, address=address, waiting=box.waiting)
        return MailboxDeleted(address)

    return [purge, remove]


def _moving(core: Core, callers: Callers) -> HTTPRouteHandler:
    @post("/mailbox/requeue", status_code=200, security=[{"token": []}], opt={"body": Requeue})
    async def requeue(request: Request[Any, Any, Any]) -> Requeued:
        """Moves one waiting message to the end of another mailbox, or of its own.

        Where authentication is on, the token needs the scope `admin`.
        """
        by = callers.administrator(request).subject
        wanted = await body_of(request, Requeue)
        _claimed(core, Capability.REQUEUE_ONE, "move one message")
        target = core.endpoints.target(wanted.to if wanted.to is not None else wanted.address)
        await _box(core, wanted.address)
        core.router.open_mailboxes(by, [target.address])
        if not await core.broker.requeue(wanted.address, wanted.id, target.address, target.policy):
            raise Refused("not_found", f"No such message waits for {wanted.address!r}.", address=wanted.address)
        _log.info("message_requeued", by=by, message_id=wanted.id, address=wanted.address, to=target.address)
        return Requeued(wanted.id, target.address)

    return requeue


async def _box(core: Core, address: str) -> MailboxStatistics:
    """Refused `bad_address` or `not_found`."""
    if not is_address(address):
        raise Refused("bad_address", "This is not an address: write endpoint/actor, or endpoint/sub/actor.")
    box = await core.broker.mailbox(address)
    if box is None:
        raise Refused("not_found", f"There is no mailbox of {address!r}.", address=address)
    return box


async def _is_read(core: Core, box: MailboxStatistics) -> bool:
    """By a session on any node, as far as broker and directory know."""
    return box.subscriptions > 0 or bool(await core.installation.directory.of_actor(box.address))


def _claimed(core: Core, capability: Capability, what: str) -> None:
    """Refused `unsupported` if the broker does not offer it."""
    if capability not in core.broker.capabilities:
        kind = core.settings.broker.url.partition(":")[0]
        raise Refused("unsupported", f"The broker ({kind}) cannot {what}.", broker=kind)


async def _check_peek(core: Core, box: MailboxStatistics) -> None:
    if await _is_read(core, box):
        _claimed(core, Capability.PEEK_HELD, "show what waits in a mailbox that somebody reads")


async def _peek(core: Core, query: MessagesQuery) -> tuple[list[Entry], Cursor | None]:
    """Refused `bad_cursor` where the list would not go on without a gap or a repeat."""
    of = ("messages", query.address)
    before, last = read_cursor(query.cursor, of, Seen) or ("", "")
    found = await core.broker.peek(query.address, query.limit + (2 if last else 1), before)
    if last:
        if not found or found[0].message.id != last:
            raise Refused("bad_cursor", "What the cursor stands for waits no more: begin again without it.")
        before, found = last, found[1:]
    page = found[: query.limit]
    if len(found) <= query.limit:
        return page, None
    return page, write_cursor(of, (page[-2].message.id if len(page) > 1 else before, page[-1].message.id))


def _message(entry: Entry, whole: bool) -> WaitingMessage:
    message = entry.message
    attachments = [b64encode(one).decode() for one in message.attachments]
    return WaitingMessage(
        message.id,
        message.type,
        message.sender,
        message.at,
        message.size,
        message.priority,
        message.expires_at,
        max(entry.attempts, 0),
        entry.deliveries,
        msgspec.Raw(message.body) if whole else msgspec.UNSET,
        attachments if whole else msgspec.UNSET,
    )
