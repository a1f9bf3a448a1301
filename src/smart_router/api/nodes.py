"""GET /nodes: the installation's nodes, as each says of itself every few seconds."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from smart_router.api.caller import Callers
from smart_router.core.services import Core
from smart_router.directory.base import NodeRecord

__all__ = ["NodeView", "Nodes", "node_routes"]


class NodeView(msgspec.Struct, frozen=True):
    """`started_at`, `reported_at`: ms since 1970 UTC. `lag`: s that its event loop was late at its last report.

    `same_configuration`: it has the endpoints and routes of the node that answers. `trouble`: why it takes no new
    messages, "" when it does.
    """

    id: str
    roles: list[str]
    version: str
    address: str
    started_at: int
    reported_at: int
    sessions: int
    lag: float
    draining: bool
    same_configuration: bool
    trouble: str


class Nodes(msgspec.Struct, frozen=True):
    """`self`: the id of the node that answers. Oldest first."""

    self: str
    nodes: list[NodeView]


def node_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    installation = core.installation

    def view(node: NodeRecord) -> NodeView:
        return NodeView(
            node.id,
            list(node.roles),
            node.version,
            node.address,
            node.started_at,
            node.reported_at,
            node.sessions,
            node.lag,
            node.draining,
            node.configuration == installation.me.configuration,
            node.trouble,
        )

    @get("/nodes", security=[{"token": []}])
    async def nodes(request: Request[Any, Any, Any]) -> Nodes:
        """The nodes of this installation: roles, versions, sessions, lag.

        Where authentication is on, the token needs the scope `monitor` or `admin`.
        """
        callers.monitor(request)
        installation.report()
        return Nodes(installation.me.id, [view(node) for node in await installation.directory.nodes()])

    return [nodes]
