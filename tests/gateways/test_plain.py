"""The plain gateway on a whole node, over a real WebSocket (docs/plain-protocol.md)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from smart_router.config.schema import LimitSettings
from tests.api.nodes import running, settings_of


@contextlib.asynccontextmanager
async def greeted(data: Path, limits: LimitSettings | None = None) -> AsyncIterator[ClientConnection]:
    """A connection that was asked who it is."""
    settings = settings_of(data)
    if limits is not None:
        settings = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, limits=limits))
    async with running(settings) as node:
        host, port = node.addresses[0]
        protocols = [Subprotocol("smart-router.v1")]
        async with connect(f"ws://{host}:{port}/ws", subprotocols=protocols) as connection:
            assert await hear(connection) == {"op": "whoareyou"}
            yield connection


async def hear(connection: ClientConnection) -> Any:
    return json.loads(await connection.recv())


async def say(connection: ClientConnection, **frame: Any) -> Any:
    """One frame, and the next that comes."""
    await connection.send(json.dumps(frame))
    return await hear(connection)


@pytest.mark.parametrize("actor", ["", "ada", "/", "ui/", "/ada", "ui/456/", "ui//ada", "ui/456/ada/x", "ui/456/a da"])
async def test_an_id_of_another_form_is_bad_actor(tmp_path: Path, actor: str) -> None:
    async with greeted(tmp_path) as connection:
        error = await say(connection, op="identify", actor=actor)
        assert (error["op"], error["code"], error["temporary"]) == ("error", "bad_actor", False)
        assert (await say(connection, op="identify", actor="ui/456/ada"))["op"] == "hello"


@pytest.mark.parametrize("actor", ["ui/ada", "ui/457/ada", "nobody/ada", "nobody/456/ada"])
async def test_an_actor_of_no_endpoint_is_an_unknown_address(tmp_path: Path, actor: str) -> None:
    async with greeted(tmp_path) as connection:
        error = await say(connection, op="identify", actor=actor)
        assert (error["code"], error["address"]) == ("unknown_address", actor)
        assert (await say(connection, op="identify", actor="ui/456/ada"))["op"] == "hello"


async def test_nesting_and_attachments_have_the_servers_limits(tmp_path: Path) -> None:
    async with greeted(tmp_path, LimitSettings(nesting=5, attachments=1)) as connection:
        await say(connection, op="identify", actor="ui/456/ada")
        message = {"ids": {}, "payload": {"a": {"b": 1}}}
        error = await say(connection, op="send", type="t", message=message, attachments=["aGk="], ref=1)
        assert (error["op"], error["answer"]["error"]["code"]) == ("answer", "no_route")
        error = await say(connection, op="send", type="t", message=message, attachments=["", ""], ref=2)
        assert error["message"] == "`send` takes at most 1 attachments"
    async with greeted(tmp_path, LimitSettings(nesting=5)) as connection:
        await say(connection, op="identify", actor="ui/456/ada")
        error = await say(connection, op="send", type="t", message={"payload": {"a": {"b": {"c": {}}}}}, ref=1)
        assert (error["op"], error["message"]) == ("error", "JSON is nested too deeply")
