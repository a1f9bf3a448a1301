"""Authentication and rules as an actor meets them: at CONNECT, at publish, at delivery; expiry, refresh, revocation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from smart_router.app import SmartRouter
from smart_router.config.schema import AuthSettings
from smart_router.errors import Refused
from smart_router.gateways.base import CloseReason
from tests.core.token_samples import SECRET, by_hand
from tests.fakes.bench import Bench, message, running, talking
from tests.fakes.client import Client
from tests.fakes.clock import until

ALICE, BOB = "ui/456/alice", "ui/456/bob"
START = 1_800_000_000


def token(subject: str = "alice", seconds: int = 3600, *, at: int = START, **claims: Any) -> str:
    return by_hand({"alg": "HS256"}, {"sub": subject, "iat": at, "exp": at + seconds, **claims})


def app() -> SmartRouter:
    return talking(recovery=True, access={"publish": 'address != "ui/456/secret"', "read": 'from != "ui/456/noisy"'})


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(app(), auth=AuthSettings(secret=SECRET)) as bench:
        yield bench


@pytest.fixture
async def alice(bench: Bench) -> Client:
    return await bench.join(ALICE, token=token())


async def test_without_a_token_nobody_comes_in(bench: Bench) -> None:
    for auth in ({}, {"token": "nonsense"}, {"actor": ALICE}, {"token": None}):
        with pytest.raises(Refused) as caught:
            bench.client("/ui/456").open(auth)
        assert caught.value.code == "unauthorized"
    others: list[Any] = [{"token": 7}, [], "text"]
    for wrong in others:
        with pytest.raises(Refused) as caught:
            bench.client("/ui/456").open(wrong)
        assert caught.value.code in ("bad_message", "unauthorized")


async def test_a_bearer_header_does_too(bench: Bench) -> None:
    client = bench.client("/ui/456", b"Bearer " + token().encode())
    client.open({"actor": ALICE})
    await until(lambda: client.hellos)


async def test_somebody_elses_id(bench: Bench) -> None:
    with pytest.raises(Refused) as caught:
        bench.client("/ui/456").open({"actor": BOB, "token": token()})
    assert caught.value.code == "forbidden"
    client = bench.client("/ui/456")
    client.open({"token": token()})
    client.tell("iam", BOB)
    assert client.codes == ["forbidden"]
    client.tell("iam", ALICE)
    await until(lambda: client.hellos)


async def test_the_rules_are_looked_at_when_publishing(bench: Bench, alice: Client) -> None:
    answer = await alice.asked("talk", message(1, to=[BOB, "ui/456/secret"]))
    assert (answer["error"]["code"], answer["error"]["address"]) == ("forbidden", "ui/456/secret")
    assert bench.waiting(BOB) == 0
    assert (await alice.asked("talk", message(1, to=BOB)))["status"] == "queued"


async def test_the_rules_are_looked_at_when_delivering(bench: Bench, alice: Client) -> None:
    noisy = await bench.join("ui/456/noisy", token=token("noisy"))
    await noisy.asked("talk", message(1, to=ALICE))
    await noisy.asked("talk", message(2, to=BOB))
    assert alice.deliveries == []
    [letter] = await bench.dead_letters(1)
    assert (letter.state, letter.reason, letter.address) == ("refused", "access", ALICE)


async def test_told_before_it_expires_then_cut(bench: Bench) -> None:
    alice = await bench.join(ALICE, token=token(seconds=60))
    bench.pass_time(29)
    assert alice.codes == []
    bench.pass_time(2)
    assert [(error["code"], error["temporary"]) for error in alice.errors] == [("token_expiring", True)]
    bench.pass_time(30)
    assert alice.codes == ["token_expiring", "token_expired"]
    assert alice.close_reason is CloseReason.EXPIRED
    assert not bench.sessions.of_actor(ALICE)


async def test_a_refreshed_token_goes_on(bench: Bench) -> None:
    alice = await bench.join(ALICE, token=token(seconds=60))
    bench.pass_time(40)
    assert await alice.asked("refresh", {"token": token(seconds=3600)}) == {}
    bench.pass_time(600, step=1)
    assert alice.codes == ["token_expiring"]
    assert (await alice.asked("talk", message(1, to=BOB)))["status"] == "queued"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"token": "nonsense"}, "unauthorized"),
        ({"token": 7}, "bad_message"),
        ({}, "bad_message"),
        (7, "bad_message"),
        ({"token": token("bob")}, "forbidden"),
        ({"token": token(seconds=-10)}, "token_expired"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refresh_that_fails_changes_nothing(alice: Client, wrong: Any, code: str) -> None:
    answer = await alice.asked("refresh", wrong)
    assert answer["error"]["code"] == code
    alice.tell("refresh", wrong)
    assert alice.codes == [code]
    assert (await alice.asked("talk", message(1, to=BOB)))["status"] == "queued"


async def test_revocation_cuts_and_leaves_the_mailbox(bench: Bench, alice: Client) -> None:
    bob = await bench.join(BOB, token=token("bob"))
    await bob.asked("talk", message(1, to=ALICE))
    await bench.revocations.revoke(subject="alice")
    assert alice.codes == ["revoked"]
    assert alice.close_reason is CloseReason.REVOKED
    assert bench.waiting(ALICE) == 1
    with pytest.raises(Refused) as caught:
        await bench.join(ALICE, token=token())
    assert caught.value.code == "revoked"
    bench.clock.advance(5)
    again = await bench.join(ALICE, token=token(at=START + 5))
    assert again.numbers == [1]
    assert bob.codes == []


async def test_revocation_of_one_who_is_away_for_a_moment(bench: Bench, alice: Client) -> None:
    alice.cut()
    await bench.revocations.revoke(subject="alice")
    assert not bench.sessions.of_actor(ALICE)
    bench.clock.advance(5)
    again = await bench.join(ALICE, alice.pid, None, token=token(at=START + 5))
    assert again.hellos == [("received", False)]


async def test_somebody_else_does_not_recover_with_a_stolen_pid(bench: Bench, alice: Client) -> None:
    bob = await bench.join(BOB, token=token("bob"))
    await bob.asked("talk", message(1, to=ALICE))
    alice.cut()
    thief = bench.client("/ui/456")
    thief.open({"token": token("bob")}, alice.pid, None)
    assert thief.log == [("whoareyou", {})]
    assert thief.pid != alice.pid
    again = await bench.join(ALICE, alice.pid, None, token=token())
    assert again.hellos == [("received", True)]
    assert again.numbers == [1]


async def test_a_token_that_expires_while_its_owner_is_away(bench: Bench) -> None:
    alice = await bench.join(ALICE, token=token(seconds=60))
    alice.cut()
    bench.pass_time(70)
    with pytest.raises(Refused) as caught:
        await bench.join(ALICE, alice.pid, None, token=token(seconds=60))
    assert caught.value.code == "token_expired"
    again = await bench.join(ALICE, alice.pid, None, token=token(seconds=600))
    assert again.hellos == [("received", True)]


async def test_who_connects_and_says_who_it_is_after_the_token_expired(bench: Bench) -> None:
    client = bench.client("/ui/456")
    client.open({"token": token(seconds=20)})
    bench.pass_time(30)
    client.tell("iam", ALICE)
    await until(lambda: client.errors or client.hellos)
    bench.pass_time(2)
    assert "token_expired" in client.codes
    assert not bench.sessions.of_actor(ALICE)
