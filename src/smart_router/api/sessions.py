"""/sessions and /actor: who is connected, on all nodes; a session cut. An actor's id has slashes: it is `?id=`."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Request, delete, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from smart_router.api.caller import Callers
from smart_router.api.cursors import read_cursor, write_cursor
from smart_router.api.mailboxes import MailboxView, view_of
from smart_router.api.queries import Address, Limit, Prefix, query_of
from smart_router.core.cutting import Cut, Cutting
from smart_router.core.senders import place_of
from smart_router.core.services import Core
from smart_router.directory.base import SessionRecord
from smart_router.errors import Refused

__all__ = ["session_routes"]

_log = structlog.get_logger("smart_router.audit")


class SessionsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`prefix`: of the actors' ids."""

    prefix: Prefix = ""
    limit: Limit = 100
    cursor: str | None = None


class ActorQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Address


class SessionView(msgspec.Struct, frozen=True):
    """`since`: ms since 1970 UTC. `daemon`, `status`, `metadata`: as the client registered it. `parked`: its connection
    is lost, and it waits for its client. Of the sessions of the node that answers also: `in_flight`, messages written
    and not confirmed; `written`, all that were."""

    id: str
    actor: str
    endpoint: str
    node: str
    subject: str
    since: int
    daemon: str
    status: str
    health: str
    metadata: Any
    parked: bool
    in_flight: int | None
    written: int | None


class SessionPage(msgspec.Struct, frozen=True):
    """In the order of actor and id. `node`: which one answers. `cursor`: there are more; ask again with it."""

    node: str
    sessions: list[SessionView]
    cursor: str | None


class SessionsCut(msgspec.Struct, frozen=True):
    """Mostly one; two if it was just moving from one node to another."""

    sessions: list[Cut]


class ActorView(msgspec.Struct, frozen=True):
    """`online`: it has a session on some node. `mailbox`: its own; null: there is none (now)."""

    id: str
    online: bool
    sessions: list[SessionView]
    mailbox: MailboxView | None


def session_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    cutting = Cutting(core)
    directory = core.installation.directory

    @get("/sessions", security=[{"token": []}], opt={"query": SessionsQuery})
    async def sessions(request: Request[Any, Any, Any]) -> SessionPage:
        """The sessions of all nodes, as far as the directory keeps them.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        query = query_of(request, SessionsQuery)
        of = ("sessions", query.prefix)
        after = read_cursor(query.cursor, of, str) or ""
        found = await directory.sessions(query.prefix, after, query.limit + 1)
        page = found[: query.limit]
        cursor = write_cursor(of, f"{page[-1].actor} {page[-1].id}") if len(found) > query.limit else None
        return SessionPage(core.installation.me.id, [_view(core, one) for one in page], cursor)

    @delete("/sessions/{id:str}", status_code=200, security=[{"token": []}])
    async def cut(request: Request[Any, Any, Any], id: FromPath[str]) -> SessionsCut:
        """Cuts a session, on whichever node it is; its mailboxes stay, and its client may come back.

        Where authentication is on, the token needs the scope `admin`.
        """
        identity = callers.administrator(request)
        gone = await cutting.cut(id)
        if not gone:
            raise Refused("not_found", "There is no such session (any more).")
        for one in gone:
            _log.info("session_cut", by=identity.subject, session_id=one.id, actor=one.actor, node=one.node)
        return SessionsCut(gone)

    @get("/actor", security=[{"token": []}], opt={"query": ActorQuery})
    async def actor(request: Request[Any, Any, Any]) -> ActorView:
        """An actor: its sessions on all nodes, and how much is in its mailbox.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        id_ = query_of(request, ActorQuery).id
        place_of(core.endpoints, id_)
        records = await directory.of_actor(id_)
        box = await core.broker.mailbox(id_)
        if not records and box is None:
            raise Refused("not_found", f"The actor {id_!r} has neither a session nor a mailbox.")
        mailbox = view_of(box) if box is not None else None
        return ActorView(id_, bool(records), [_view(core, one) for one in records], mailbox)

    return [sessions, cut, actor]


def _view(core: Core, record: SessionRecord) -> SessionView:
    here = core.sessions.of_actor(record.actor) if record.node == core.installation.me.id else []
    state = record.state
    info = next((one.info() for one in here if one.id == record.id), None)
    return SessionView(
        record.id,
        record.actor,
        record.endpoint,
        record.node,
        record.subject,
        record.since,
        state.daemon,
        state.status,
        state.health,
        msgspec.Raw(state.metadata.encode()) if state.metadata else {},
        info.parked if info else state.parked,
        info.in_flight if info else None,
        info.written if info else None,
    )
