"""GET /nodes: what a node says of itself and of the others."""

from __future__ import annotations

import pytest

from smart_router.app import Node
from tests.api.nodes import ADMIN, MONITOR, ask, bearer


async def test_a_node_alone(node: Node) -> None:
    answer = (await ask(node, "GET", "/nodes")).json
    (one,) = answer["nodes"]
    host, port = node.addresses[0]
    assert (one["id"], one["address"]) == (answer["self"], f"{host}:{port}")
    assert one["roles"] == ["gateway", "router"]
    assert (one["sessions"], one["draining"], one["same_configuration"], one["trouble"]) == (0, False, True, "")
    assert one["reported_at"] >= one["started_at"] > 0


@pytest.mark.parametrize(("token", "status"), [(MONITOR, 200), (ADMIN, 200), (None, 401)])
async def test_who_may_ask(guarded: Node, token: str | None, status: int) -> None:
    assert (await ask(guarded, "GET", "/nodes", bearer(token) if token else {})).status == status
