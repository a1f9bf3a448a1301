"""The bot as its users see it: answers, once each, and calls a person."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from smart_router.app import Node
from smart_router.client import connect
from smart_router.config.load import load_settings
from smart_router.config.schema import AuthSettings, GatewaySettings, ServerSettings, Settings, TokenSettings
from smart_router.demo.bot import GREETING, HANDOVER
from smart_router.demo.own_node import own_url
from tests.api.nodes import running
from tests.processes import ROOT

__all__: list[str] = []

CONFIG = ROOT / "examples" / "live_chat" / "smart-router.toml"
IDS = {"ui": "ui/456/u1", "agent": "agent/456"}
BOT_TOKEN = "bot-token-0123456789"


def demo(data: Path) -> Settings:
    return load_settings(CONFIG, {}, {"--port": 0, "--data": str(data), "--demo": True})


def url(node: Node) -> str:
    return own_url(node.settings, node.addresses)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(demo(tmp_path / "data")) as node:
        yield node


async def test_it_answers_and_says_what_it_has_read(node: Node) -> None:
    async with connect(url(node), actor="ui/456/u1") as user:
        await user.send("talk", ids=IDS, payload={"text": "Hello!"}, options={"id": "k1"})
        answer = await user.receive()
        assert (answer.type, answer.sender, answer.payload) == (
            "talkback",
            "agent/456/bot",
            {"text": GREETING, "re": "k1"},
        )
        await user.send("talk", ids=IDS, payload={"text": "one two"}, options={"id": "k2"})
        assert (await user.receive()).payload == {"text": "You said: one two", "re": "k2"}


async def test_it_calls_a_person_who_then_gets_what_the_user_says(node: Node) -> None:
    async with (
        connect(url(node), actor="ui/456/u1") as user,
        connect(url(node), actor="livechat/acme/ada") as person,
    ):
        await user.send("talk", ids=IDS, payload={"text": " Human "}, options={"id": "k1"})
        told = await user.receive()
        assert told.payload == {"text": HANDOVER, "handover": "livechat/acme", "re": "k1"}
        asked = await person.receive()
        assert (asked.type, asked.ids["ui"]) == ("sessionrequest", "ui/456/u1")
        ids = {**IDS, "service": told.payload["handover"]}
        await user.send("talk", ids=ids, metadata={"service": True}, payload={"text": "are you a person?"})
        assert (await person.receive()).payload == {"text": "are you a person?"}
        await person.send("talkback", ids=ids, payload={"text": "I am"})
        assert (await user.receive()).payload == {"text": "I am"}  # and nothing from the bot, which got a copy


@pytest.mark.parametrize("payload", [None, 5, [], {}, {"text": 5}, {"text": None, "name": []}])
async def test_what_it_does_not_understand_it_leaves_alone(node: Node, payload: object) -> None:
    async with connect(url(node), actor="ui/456/u1") as user:
        await user.send("talk", ids=IDS, payload=payload)
        await user.send("talk", ids={"agent": "agent/456"}, payload={"text": "from nowhere"})
        await user.send("talk", ids=IDS, payload={"text": "still there?"})
        assert (await user.receive()).payload["text"] == "You said: still there?"


@pytest.mark.parametrize("fields", [{}, {"metadata": {}}, {"metadata": {"service": False}}, {"metadata": 5}])
async def test_naming_a_service_alone_does_not_leave_the_bot(node: Node, fields: dict[str, object]) -> None:
    async with connect(url(node), actor="ui/456/u1") as user:
        ids = {**IDS, "service": "livechat/acme"}
        await user.send("talk", ids=ids, payload={"text": "you there?"}, **fields)  # type: ignore[arg-type]
        assert (await user.receive()).sender == "agent/456/bot"


async def test_a_message_that_waited_for_the_bot_is_answered_when_it_starts(tmp_path: Path) -> None:
    settings = demo(tmp_path / "data")
    async with running(replace(settings, demo=False)) as node, connect(url(node), actor="ui/456/u1") as user:
        await user.send("talk", ids=IDS, payload={"text": "early"})
    async with running(settings) as node, connect(url(node), actor="ui/456/u1") as user:
        assert (await user.receive()).payload["text"] == "You said: early"


async def test_with_authentication_it_uses_the_token_made_for_it(tmp_path: Path) -> None:
    user_token = TokenSettings(token="user-token-0123456789", subject="ui/456/u1")
    tokens = [TokenSettings(token=BOT_TOKEN, subject="agent/456/bot"), user_token]
    settings = replace(demo(tmp_path / "data"), auth=AuthSettings(tokens=tokens))
    async with (
        running(settings) as node,
        connect(url(node), actor="ui/456/u1", token="user-token-0123456789") as user,
    ):
        await user.send("talk", ids=IDS, payload={"text": "who are you?"})
        assert (await user.receive()).sender == "agent/456/bot"


async def test_a_bot_that_may_not_be_there_says_so_and_disturbs_nobody(tmp_path: Path) -> None:
    tokens = [TokenSettings(token="user-token-0123456789", subject="ui/456/u1")]
    settings = replace(demo(tmp_path / "data"), auth=AuthSettings(tokens=tokens))
    with capture_logs() as logged:
        async with running(settings):
            (bot,) = [task for task in asyncio.all_tasks() if task.get_name() == "demo bot"]
            await bot
    assert [one["event"] for one in logged if one["event"].startswith("bot_")] == ["bot_stopped"]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([("127.0.0.1", 80)], "ws://127.0.0.1:80/plain"),
        ([("0.0.0.0", 80)], "ws://127.0.0.1:80/plain"),
        ([("::", 80)], "ws://[::1]:80/plain"),
    ],
)
def test_it_finds_its_own_node(addresses: list[tuple[str, int]], expected: str) -> None:
    gateways = [GatewaySettings(kind="socketio", path="/s/"), GatewaySettings(kind="plain", path="/plain")]
    assert own_url(Settings(server=ServerSettings(gateways=gateways)), addresses) == expected
