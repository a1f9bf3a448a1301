"""Rates, and how many mailboxes there may be."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.bench import message, running, talking
from tests.fakes.client import Client


async def code(sender: Client, to: str | list[str], payload: object = 1) -> str:
    answer = await sender.asked("talk", message(payload, to=to))
    return str(answer["error"]["code"] if "error" in answer else answer["status"])


async def test_messages_a_second() -> None:
    async with running(talking(messages_per_second=10)) as bench:
        alice = await bench.join("ui/456/alice")
        codes = [await code(alice, "ui/456/bob") for _ in range(12)]
        assert codes == ["queued"] * 10 + ["rate_limited"] * 2
        answer = await alice.asked("talk", message(to="ui/456/bob"))
        assert (answer["error"]["temporary"], answer["error"]["limit"]) == (True, 10)
        bench.pass_time(0.5)
        assert [await code(alice, "ui/456/bob") for _ in range(6)] == ["queued"] * 5 + ["rate_limited"]
        other = await bench.join("ui/456/carol")
        assert await code(other, "ui/456/bob") == "queued"


async def test_less_than_one_a_second() -> None:
    async with running(talking(messages_per_second=0.5)) as bench:
        alice = await bench.join("ui/456/alice")
        assert [await code(alice, "ui/456/bob") for _ in range(2)] == ["queued", "rate_limited"]
        bench.pass_time(2)
        assert [await code(alice, "ui/456/bob") for _ in range(2)] == ["queued", "rate_limited"]


async def test_bytes_a_second() -> None:
    async with running(talking(bytes_per_second=2000)) as bench:
        alice = await bench.join("ui/456/alice")
        assert await code(alice, "ui/456/bob", "x" * 1900) == "queued"
        assert await code(alice, "ui/456/bob", "x" * 500) == "rate_limited"
        bench.pass_time(1)
        assert await code(alice, "ui/456/bob", "x" * 10_000) == "queued"
        bench.pass_time(1)
        assert await code(alice, "ui/456/bob") == "rate_limited"
        bench.pass_time(10)
        assert await code(alice, "ui/456/bob") == "queued"


async def test_new_mailboxes_a_minute_and_sender() -> None:
    async with running(talking(new_mailboxes_per_minute=3)) as bench:
        sender, other = await bench.join("daemon/s"), await bench.join("daemon/t")
        codes = [await code(sender, f"ui/456/{number}") for number in range(4)]
        assert codes == ["queued"] * 3 + ["too_many_mailboxes"]
        assert await code(sender, "ui/456/0") == "queued"
        assert await code(other, "ui/456/new") == "queued"
        bench.pass_time(61, step=10)
        assert await code(sender, "ui/456/3") == "queued"


async def test_what_is_refused_counts_for_nothing() -> None:
    async with running(talking(max_mailboxes=3)) as bench:
        sender = await bench.join("daemon/s")
        for _ in range(5):
            assert await code(sender, [f"ui/456/{number}" for number in range(4)]) == "too_many_mailboxes"
        assert await code(sender, ["ui/456/0", "ui/456/0", "ui/456/1", "ui/456/2"]) == "queued"
        assert await code(sender, "ui/456/3") == "too_many_mailboxes"


async def test_mailboxes_of_an_endpoint_come_and_go() -> None:
    async with running(talking(max_mailboxes=2, idle_expiry=60)) as bench:
        sender = await bench.join("daemon/s")
        alice, bob = await bench.join("ui/456/alice"), await bench.join("ui/456/bob")
        assert await code(sender, "ui/456/carol") == "too_many_mailboxes"
        carol = await bench.join("ui/456/carol")
        assert carol.codes == ["too_many_mailboxes"]
        assert not carol.hellos
        alice.cut()
        bob.cut()
        bench.pass_time(61, step=10)
        for _ in range(3):
            alice = await bench.join("ui/456/alice")
            assert alice.hellos
            alice.cut()
            bench.pass_time(61, step=10)
        assert await code(sender, "ui/456/carol") == "queued"
        assert await code(sender, "ui/456/dave") == "queued"
        assert await code(sender, "ui/456/eve") == "too_many_mailboxes"


async def test_idle_mailboxes_go_those_with_messages_stay(tmp_path: Path) -> None:
    async with running(talking(idle_expiry=60), tmp_path) as bench:
        sender, alice = await bench.join("daemon/s"), await bench.join("ui/456/alice")
        assert await code(sender, "ui/456/bob") == "queued"
        bench.pass_time(200, step=10)
        assert bench.broker.exists("ui/456/alice")
        alice.cut()
        bench.pass_time(50, step=10)
        assert bench.broker.exists("ui/456/alice")
        bench.pass_time(20, step=10)
        assert not bench.broker.exists("ui/456/alice")
        assert bench.waiting("ui/456/bob") == 1
