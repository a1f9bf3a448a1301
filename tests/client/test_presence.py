"""Registration, status, presence and watches: against a script, and against a router."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from smart_router.client import ClientSettings, Presence, ProtocolError, Refused, connect
from smart_router.client.presence import read_presence
from smart_router.protocols import plain
from tests.api.nodes import running as running_node
from tests.api.nodes import settings_of

ALICE, BOB = "ui/456/alice", "ui/456/bob"


def test_who_says_nothing_sends_nothing() -> None:
    assert plain.encode(plain.Identify(ALICE)) == b'{"op":"identify","actor":"ui/456/alice"}'


async def test_against_a_router(tmp_path: Path) -> None:
    async with running_node(settings_of(tmp_path)) as node:
        host, port = node.addresses[0]
        url = f"ws://{host}:{port}/ws"
        own = ClientSettings(daemon="d-1", status="idle", metadata={"host": "größe"}, lease=60)
        async with connect(url, actor=BOB) as bob:
            assert await bob.watch(ALICE) == [Presence(ALICE, "offline")]
            async with connect(url, actor=ALICE, settings=own) as alice:
                assert await bob.presence(ALICE, BOB) == [Presence(ALICE, "idle"), Presence(BOB, "online")]
                (session,) = node.core.sessions.of_actor(ALICE)
                assert session.info()[-4:] == ("d-1", "idle", '{"host":"größe"}', "healthy")
                assert session.registration.lease == 60
                await alice.set_status("away")
                told = [(await bob.receive()).payload["presence"] for _ in range(2)]
                assert told == ["idle", "away"]
                with pytest.raises(Refused) as refused:
                    await alice.set_status("asleep")
                assert refused.value.code == "bad_message"
                with pytest.raises(Refused):
                    await bob.presence("nowhere/x")
            await bob.unwatch(ALICE)
            assert node.core.watching.watches.of(BOB) == []


async def test_the_status_holds_for_the_next_connection(tmp_path: Path) -> None:
    async with running_node(settings_of(tmp_path)) as node:
        host, port = node.addresses[0]
        async with connect(f"ws://{host}:{port}/ws", actor=ALICE, settings=ClientSettings(first_delay=0.01)) as alice:
            await alice.set_status("away")
            (session,) = node.core.sessions.of_actor(ALICE)
            session.link.cut()
            async with asyncio.timeout(10):
                while [one for one in node.core.sessions if one is not session] == []:  # noqa: ASYNC110 - it comes back
                    await asyncio.sleep(0.01)
            (again,) = [one for one in node.core.sessions if one is not session]
            assert again.registration.status == "away"


async def test_a_lease_of_a_million_years_is_refused(tmp_path: Path) -> None:
    async with running_node(settings_of(tmp_path)) as node:
        host, port = node.addresses[0]
        with pytest.raises(Refused, match="604800"):
            async with connect(f"ws://{host}:{port}/ws", actor=ALICE, settings=ClientSettings(lease=3e13)):
                pass


def test_an_answer_of_another_shape() -> None:
    with pytest.raises(ProtocolError):
        read_presence(b"{}")
