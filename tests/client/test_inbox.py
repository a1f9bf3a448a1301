"""A model of the router's side: whatever is cut, and whenever, the application gets each message once and in order."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smart_router.client.inbox import Inbox
from smart_router.client.message import Message
from smart_router.client.settings import ClientSettings
from smart_router.protocols import plain
from tests.client.peer import body


class OneReader(RuleBasedStateMachine):
    """`waiting`: what the router holds unconfirmed; `written`: what this connection has got of it, by number."""

    ack = "received"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.inbox = Inbox(ClientSettings(), asyncio.Event())
        self.published = 0
        self.waiting: list[str] = []
        self.written: dict[int, str] = {}
        self.number = 0
        self.processed: list[str] = []
        self.held: list[Message] = []
        self.reconnect()

    def teardown(self) -> None:
        self.loop.close()

    @rule()
    def reconnect(self) -> None:
        self.inbox.connected(plain.Hello("s", self.ack))
        self.written.clear()
        self.number = 0

    @rule()
    def publish(self) -> None:
        self.published += 1
        self.waiting.append(f"m{self.published}")

    @precondition(lambda self: bool(set(self.waiting) - set(self.written.values())))
    @rule()
    def deliver(self) -> None:
        message = next(id for id in self.waiting if id not in self.written.values())
        self.number += 1
        self.written[self.number] = message
        raw = msgspec.Raw(body(message))
        self.inbox.put(plain.Deliver(self.number, "talk", raw, ack=self.ack == "client"))

    @rule()
    def take(self) -> None:
        taking = self.loop.create_task(self.inbox.take())
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        if taking.done():
            self.took(taking.result())
        taking.cancel()
        self.loop.run_until_complete(asyncio.wait({taking}))

    def took(self, message: Message) -> None:
        self.processed.append(message.id)

    @rule()
    def confirm(self) -> None:
        """The client's confirmations reach the router."""
        while (frame := self.inbox.due()) is not None:
            told = plain.decode_client(frame)
            if isinstance(told, plain.Ack):
                done = [n for n in self.written if n == told.n or n <= told.upto]
                for number in done:
                    self.waiting.remove(self.written.pop(number))

    @invariant()
    def once_and_in_order(self) -> None:
        assert self.processed == [f"m{n}" for n in range(1, len(self.processed) + 1)]

    @invariant()
    def nothing_is_confirmed_that_the_application_has_not_had(self) -> None:
        assert set(self.waiting) | set(self.processed) == {f"m{n}" for n in range(1, self.published + 1)}


class OneWorker(OneReader):
    """`ack = "client"`: what was acknowledged never comes again; what was not may, and then in any order."""

    ack = "client"

    def took(self, message: Message) -> None:
        assert message.id not in self.processed
        self.held.append(message)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        message = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        message.ack()
        if message.id not in self.processed:
            self.processed.append(message.id)

    @invariant()
    def once_and_in_order(self) -> None:
        assert len(set(self.processed)) == len(self.processed)


TestOneReader = OneReader.TestCase
TestOneReader.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOneWorker = OneWorker.TestCase
TestOneWorker.settings = TestOneReader.settings


def delivered(inbox: Inbox, *messages: str, ack: bool = False) -> None:
    for n, message in enumerate(messages, 1):
        inbox.put(plain.Deliver(n, "talk", msgspec.Raw(body(message)), offset=f"o-{message}", ack=ack))


async def test_an_answer_is_never_given_under_a_number_of_another_connection() -> None:
    inbox = Inbox(ClientSettings(), asyncio.Event())
    inbox.connected(plain.Hello("s", "client"))
    delivered(inbox, "m1", "m2", ack=True)
    first, second = await inbox.take(), await inbox.take()
    first.nack("later")
    inbox.connected(plain.Hello("s", "client"))
    delivered(inbox, "m2", "m3", ack=True)
    second.ack()
    assert inbox.due() is None
    assert (await inbox.take()).id == "m3"
    assert inbox.due() == plain.encode(plain.Ack(n=1))


async def test_untaken_messages_do_not_pile_up_over_connections() -> None:
    inbox = Inbox(ClientSettings(inbox_messages=3), asyncio.Event())
    for _ in range(5):
        inbox.connected(plain.Hello("s", "received"))
        await inbox.room()
        delivered(inbox, "m1", "m2", "m3")
    assert inbox.statistics().waiting == 3


async def test_what_nobody_repeats_is_kept_over_connections_and_not_confirmed() -> None:
    inbox = Inbox(ClientSettings(), asyncio.Event())
    inbox.connected(plain.Hello("s", "sent"))
    delivered(inbox, "m1", "m2")
    inbox.connected(plain.Hello("s", "sent"))
    assert [(await inbox.take()).id for _ in range(2)] == ["m1", "m2"]
    assert inbox.due() is None
    assert inbox.offset is None
