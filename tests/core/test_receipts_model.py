"""Whatever connects, drops, confirms, refuses and waits: receipts say of each message what happened to it, once."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.core.test_delivery_model import ALICE, ClientMode, Mailbox
from tests.fakes.bench import message
from tests.fakes.client import Client

LIMIT = settings(max_examples=30, stateful_step_count=30, deadline=None)
WANTED = ["queued", "delivered", "failed"]


class Receipts(Mailbox):
    """`received`, with recovery; the sender confirms its receipts at the end only, so that the counts are Alice's."""

    policies: ClassVar[dict[str, Any]] = {"window": 3, "recovery": True, "recovery_window": 4, "max_messages": 5}

    @rule(count=st.integers(1, 3), ttl=st.sampled_from([None, 3]))
    def publish(self, count: int, ttl: int | None = None) -> None:
        async def publish() -> None:
            for _ in range(count):
                self.published += 1
                options = {"receipt": WANTED} | ({"ttl": ttl} if ttl else {})
                self.sender.tell("talk", {**message(self.published, to=ALICE), "options": options})

        self.run(publish())

    @property
    def told(self) -> list[tuple[str, str]]:
        """(message, status) of each receipt."""
        payloads = [got.message["payload"] for got in self.sender.deliveries if got.type == "receipt"]
        assert all(payload["to"] == ALICE for payload in payloads)
        return [(payload["message"], payload["status"]) for payload in payloads]

    @invariant()
    def nothing_is_told_twice(self) -> None:
        assert all(count == 1 for count in Counter(self.told).values())

    @invariant()
    def queued_comes_first(self) -> None:
        queued = set()
        for id_, status in self.told:
            assert status == "queued" or id_ in queued
            queued.add(id_)

    def confirm_all(self, client: Client) -> None:
        super().confirm_all(client)
        self.sender.pong()

    def teardown(self) -> None:
        super().teardown()
        told = self.told
        ends = {id_: status for id_, status in told if status != "queued"}
        assert len(ends) == len(told) - self.published == self.published
        written = {got["id"] for got in self.written}
        assert {id_ for id_, status in ends.items() if status == "delivered"} <= written
        counts = self.bench.ends.statistics().counts
        bad = Counter(status for status in ends.values() if status != "delivered")
        assert bad == Counter(
            {state: sum(n for (each, _), n in counts.items() if each == state) for state, _ in counts}
        )


class ClientReceipts(Receipts, ClientMode):
    """`client`: refusals and attempts too."""

    policies: ClassVar[dict[str, Any]] = {**ClientMode.policies, "max_messages": 5}


TestReceipts = Receipts.TestCase
TestReceipts.settings = LIMIT
TestClientReceipts = ClientReceipts.TestCase
TestClientReceipts.settings = LIMIT

__all__ = ["TestClientReceipts", "TestReceipts"]
