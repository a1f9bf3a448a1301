"""`registerNewEndpointId` on the root namespace: the texts that programs compare with, and restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from smart_router.config.schema import AuthSettings, TokenSettings
from smart_router.errors import Refused, StorageFull
from tests.fakes.bench import Bench, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ADMIN, PLAIN = "a-token-of-an-administrator", "a-token-of-somebody-else"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(talking()) as bench:
        yield bench


def root(bench: Bench, token: str | None = None) -> Client:
    client = bench.client("/")
    client.open({"token": token} if token else {})
    return client


async def register(client: Client, *args: Any) -> tuple[str, Any]:
    before = len(client.log)
    client.tell("registerNewEndpointId", *args)
    await until(lambda: len(client.log) > before)
    return client.log[-1]


async def test_a_new_one(bench: Bench) -> None:
    with pytest.raises(Refused, match="Invalid namespace"):
        bench.client("/ui/458").open()
    assert await register(root(bench), {"name": "ui", "id": 458}) == ("endpointRegistered", {})
    assert (await bench.join("ui/458/alice")).hellos
    assert bench.health.check()[0].level == "ok"


async def test_one_that_is_there(bench: Bench) -> None:
    client = root(bench)
    text = "Endpoint [/ui/456] already exists. Aborted."
    assert await register(client, {"name": "ui", "id": "456"}) == ("endpointRegistered", {"message": text})
    assert await register(client, {"name": "ui", "id": 456}) == ("endpointRegistered", {"message": text})
    assert [(entry.level, entry.message) for entry in bench.health.check()] == [("warning", text)] * 2


@pytest.mark.parametrize("name", ["toto", "daemon", "", "ui/456", "*"])
async def test_no_such_endpoint(bench: Bench, name: str) -> None:
    text = f"[{name}] is not a valid Endpoint."
    assert await register(root(bench), {"name": name, "id": 1}) == ("endpointRegistrationError", {"message": text})
    assert [(entry.level, entry.message) for entry in bench.health.check()] == [("error", text)]


@pytest.mark.parametrize("own", ["", "a/b", "a b", None, True, 1.5, "x" * 129, {}])
async def test_an_id_of_another_form(bench: Bench, own: Any) -> None:
    name, answer = await register(root(bench), {"name": "ui", "id": own})
    assert name == "endpointRegistrationError"
    assert "is not a valid id" in answer["message"]


@pytest.mark.parametrize("args", [(), (7,), ("text",), ([],), (None,)], ids=repr)
async def test_what_is_no_registration(bench: Bench, args: tuple[Any, ...]) -> None:
    client = root(bench)
    client.tell("registerNewEndpointId", *args)
    assert client.codes == ["bad_message"]


async def test_other_events_are_an_error(bench: Bench) -> None:
    client = root(bench)
    assert client.log == []
    client.tell("talk", {})
    assert client.codes == ["unknown_event"]
    number = client.send("iam", "x")
    assert client.answers[number]["error"]["code"] == "unknown_event"


async def test_after_a_restart(tmp_path: Path) -> None:
    async with running(talking(), tmp_path) as bench:
        await register(root(bench), {"name": "ui", "id": 458})
        restarted = await bench.again()
    assert (await restarted.join("ui/458/alice")).hellos
    text = "Endpoint [/ui/458] already exists. Aborted."
    assert await register(root(restarted), {"name": "ui", "id": 458}) == ("endpointRegistered", {"message": text})
    await restarted.close()


async def test_one_that_cannot_be_stored_is_not_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(sub: object) -> bool:
        raise StorageFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "add_sub_endpoint", full)
        name, _ = await register(root(bench), {"name": "ui", "id": 458})
        assert name == "endpointRegistrationError"
        with pytest.raises(Refused, match="Invalid namespace"):
            bench.client("/ui/458").open()
    assert await register(root(bench), {"name": "ui", "id": 458}) == ("endpointRegistered", {})


async def test_administrators_only() -> None:
    tokens = [
        TokenSettings(token=ADMIN, subject="admin", scope="admin"),
        TokenSettings(token=PLAIN, subject="somebody"),
    ]
    async with running(talking(), auth=AuthSettings(tokens=tokens)) as bench:
        with pytest.raises(Refused) as caught:
            root(bench)
        assert caught.value.code == "unauthorized"
        plain = root(bench, PLAIN)
        plain.tell("registerNewEndpointId", {"name": "ui", "id": 458})
        assert plain.codes == ["forbidden"]
        admin = root(bench, ADMIN)
        assert await register(admin, {"name": "ui", "id": 458}) == ("endpointRegistered", {})
        await bench.revocations.revoke(subject="admin")
        admin.tell("registerNewEndpointId", {"name": "ui", "id": 459})
        assert admin.codes == ["revoked"]
