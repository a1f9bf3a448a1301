"""A mailbox that this node holds: what the broker gives goes to one of its sessions here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from smart_router.brokers.base import Broker, Entry, MailboxPolicy, Subscription
from smart_router.core.endpoints import Endpoint
from smart_router.core.sessions import Session
from smart_router.errors import StorageError

__all__ = ["Held", "Holdings"]

_RETRY: Final = 0.2  # s, doubled up to _RETRY_MAX
_RETRY_MAX: Final = 5.0


class Held:
    """Implements brokers.base.Consumer. Never asks for more than its sessions have room for.

    `primary`: the newest session takes all; else in turn, least in flight first. What was asked for and finds no room
    any more waits in `ready`, before all that the broker still has.
    """

    __slots__ = (
        "_credit", "_filling", "_send", "address", "joining", "paused", "policy", "primary", "ready", "sessions",
        "subscription",
    )  # fmt: skip

    def __init__(
        self, address: str, policy: MailboxPolicy, primary: bool, send: Callable[[Session, Entry], None]
    ) -> None:
        self.address = address
        self.policy = policy
        self.primary = primary
        self.sessions: list[Session] = []
        self.ready: list[Entry] = []  # seldom long: an empty deque takes 700 bytes
        self.subscription: Subscription | None = None
        self.joining = 0
        """Sessions that are about to join: it is held for them too."""
        self.paused = False
        """It is on its way to another node: nothing is given, nothing asked for."""
        self._credit = 0
        self._filling = False
        self._send = send

    def join(self, session: Session) -> None:
        """The session that it was opened for, by `Holdings`."""
        self.joining -= 1
        self.sessions.append(session)

    def deliver(self, entry: Entry) -> None:
        self._credit -= 1
        session = None if self.ready else self._pick()
        if session is None:
            self.ready.append(entry)
        else:
            self._send(session, entry)

    def _pick(self) -> Session | None:
        sessions = self.sessions
        if self.paused:
            return None
        if len(sessions) == 1 or (self.primary and sessions):
            session = sessions[-1]
            return session if session.room > 0 else None
        with_room = [session for session in sessions if session.room > 0]
        if not with_room:
            return None
        session = min(with_room, key=lambda each: each.in_flight)
        sessions.remove(session)  # to the end: the next of equals is another one
        sessions.append(session)
        return session

    def _room(self) -> int:
        if self.primary:
            return self.sessions[-1].room if self.sessions else 0
        return sum(max(session.room, 0) for session in self.sessions)

    def refill(self) -> None:
        """Gives what is ready, then asks for as much as there is room for; in halves of it, to ask seldom."""
        ready = self.ready
        if self._filling or self.paused:
            return  # what is sent below confirms itself with `ack = "sent"`, and asks for more
        self._filling = True
        while ready and (session := self._pick()) is not None:
            self._send(session, ready.pop(0))
        self._filling = False
        if self.subscription is None:
            return
        room = self._room()
        wanted = room - self._credit - len(ready)
        if wanted > 0 and (wanted * 2 >= room or self._credit <= 0):
            self._credit += wanted
            self.subscription.grant(wanted)

    def hold_back(self, broker: Broker) -> None:
        """Takes back what was asked for; what came and was not written goes back, and is no repeat by that."""
        if self.subscription is not None and self._credit > 0:
            self.subscription.grant(-self._credit)
        self._credit = 0
        entries = [(entry, entry.redelivered) for entry in self.ready]
        self.ready.clear()
        if entries:
            broker.release([entry for entry, _ in entries])
            for entry, redelivered in entries:
                entry.redelivered = redelivered


class Holdings:
    """All mailboxes that this node holds, each with the one subscription that its sessions here share."""

    def __init__(self, broker: Broker, send: Callable[[Session, Entry], None]) -> None:
        self._broker = broker
        self._send = send
        self._held: dict[str, Held] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.making: Callable[[str, Endpoint], None] = lambda _address, _endpoint: None
        """Asked before a mailbox is made that is not there yet; raises Refused."""
        self.owes: Callable[[str], bool] = lambda _address: False
        """Whether something of this mailbox is confirmed, but not acknowledged yet: so it must not go back."""

    def __len__(self) -> int:
        return len(self._held)

    def get(self, address: str) -> Held | None:
        return self._held.get(address)

    async def own(self, actor: str, endpoint: Endpoint) -> Held:
        """The actor's own mailbox: to its newest session, unless the endpoint says otherwise. Then `join` it."""
        return await self._hold(actor, endpoint, endpoint.own_policy, primary=endpoint.settings.deliver != "any")

    async def shared(self, address: str, endpoint: Endpoint) -> Held:
        """A (sub-)endpoint's mailbox: to its sessions in turn, unless the endpoint says otherwise. Then `join` it."""
        return await self._hold(address, endpoint, endpoint.policy, primary=endpoint.settings.deliver == "primary")

    async def _hold(self, address: str, endpoint: Endpoint, policy: MailboxPolicy, *, primary: bool) -> Held:
        while (opening := self._opening.get(address)) is not None:
            await asyncio.shield(opening)
        held = self._held.get(address)
        if held is None:
            if not self._broker.exists(address):
                self.making(address, endpoint)
            held = self._held[address] = Held(address, policy, primary, self._send)
            await self._open(held)
        held.joining += 1
        return held

    async def _open(self, held: Held) -> None:
        opening = self._opening[held.address] = asyncio.get_running_loop().create_future()
        try:
            held.subscription = await self._broker.subscribe(held.address, held.policy, held)
        except BaseException:
            del self._held[held.address]
            raise
        finally:
            del self._opening[held.address]
            opening.set_result(None)

    def give_up(self, helds: Iterable[Held]) -> None:
        """Whoever was to join them does not."""
        helds = list(helds)
        for held in helds:
            held.joining -= 1
        self.let_go(helds)

    def let_go(self, helds: Iterable[Held]) -> None:
        """Ends the subscriptions that no session here needs any more."""
        for held in helds:
            if held.sessions or held.joining or self._held.get(held.address) is not held:
                continue
            del self._held[held.address]
            held.hold_back(self._broker)
            if held.subscription is not None:
                held.subscription.close(keep=self.owes(held.address))
                held.subscription = None

    def pass_on(self, held: Held, *, keep: bool) -> None:
        """The next in line has its turn; we stand in line again, behind all others, while a session here reads it."""
        held.hold_back(self._broker)
        if held.subscription is not None:
            held.subscription.close(keep=keep or self.owes(held.address))
            held.subscription = None
        held.paused = False
        if self._held.get(held.address) is held:
            self.run(self._renew(held), f"in line for {held.address}")

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A task that ends with the node."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self, held: Held) -> None:
        delay = _RETRY
        while held.subscription is None and self._held.get(held.address) is held:
            try:
                subscription = await self._broker.subscribe(held.address, held.policy, held)
            except StorageError:
                await asyncio.sleep(delay)  # the broker is away; its own log says so
                delay = min(delay * 2, _RETRY_MAX)
                continue
            if self._held.get(held.address) is not held:
                subscription.close()
                return
            held.subscription = subscription
            held.refill()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
