"""A node's core on real parts (broker, store, authorizer), with a fake clock and scripted clients instead of a port."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from smart_router.app import SmartRouter
from smart_router.brokers.embedded import EmbeddedBroker, EmbeddedOptions
from smart_router.bus.local import LocalBus, LocalExchange
from smart_router.clock import Deadlines
from smart_router.config.schema import AuthSettings, Settings
from smart_router.core.access import compile_rules
from smart_router.core.actions import Context
from smart_router.core.asking import Asking
from smart_router.core.attempts import Attempts
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Endpoints
from smart_router.core.ends import Ends
from smart_router.core.events import Events
from smart_router.core.expiry import TokenWatch
from smart_router.core.feedback import make_feedback
from smart_router.core.health import Health
from smart_router.core.installation import Installation, Others
from smart_router.core.limits import NewMailboxes
from smart_router.core.moving import Moving
from smart_router.core.reports import Reports
from smart_router.core.revocations import Revocations
from smart_router.core.router import Router
from smart_router.core.routes import Routes
from smart_router.core.routing_config import add_configured_routes
from smart_router.core.services import Core
from smart_router.core.sessions import Session, Sessions
from smart_router.core.sharing import Sharing
from smart_router.core.subendpoints import SubEndpoints
from smart_router.core.tokens import make_authorizer
from smart_router.core.watching import make_watching
from smart_router.core.wiring import wire
from smart_router.directory.base import NodeRecord
from smart_router.directory.bus import BusDirectory
from smart_router.directory.local import LocalDirectory
from smart_router.errors import Refused
from smart_router.gateways.actors import Actors
from smart_router.gateways.registrar import Registrar
from smart_router.ids import Ids
from smart_router.stores.base import DeadLetter, DeadLetterFilter
from smart_router.stores.open import open_store
from tests.fakes.client import Client
from tests.fakes.clock import FakeClock, until

_NODES = itertools.count(1)
_SETTLE = 1.0

__all__ = ["Bench", "message", "running", "talking"]


def message(payload: Any = None, **ids: Any) -> dict[str, Any]:
    return {"ids": ids, "payload": payload}


def talking(pattern: str = "ui/{id}", **policies: Any) -> SmartRouter:
    """`daemon` with default policies and `ui/456` with these; whoever sends `talk` reaches `ids.to`."""
    app = SmartRouter()
    app.endpoint("daemon")
    app.endpoint(pattern, **({"sub_endpoints": ["456"]} if "{" in pattern else {}), **policies)

    @app.any.on("talk")
    def talk(context: Context) -> None:
        context.publish(context.message.ids["to"])

    return app


@asynccontextmanager
async def running(app: SmartRouter, data: Path | None = None, **more: Any) -> AsyncIterator[Bench]:
    bench = await Bench(app, data, **more).open()
    try:
        yield bench
    finally:
        await bench.close()


class Bench:
    """`app`: endpoints, routes, handlers. `data`: a folder, for a broker and a store on disk; none: in memory.

    `among`: the first node of an installation in this process, which is not `alone`; its broker and bus are this one's.
    """

    def __init__(
        self,
        app: SmartRouter,
        data: Path | None = None,
        *,
        settings: Settings | None = None,
        auth: AuthSettings | None = None,
        clock: FakeClock | None = None,
        among: Bench | None = None,
        alone: bool = True,
    ) -> None:
        self.app = app
        self.data = data
        self.settings = settings or Settings(auth=auth or AuthSettings())
        self.among = among
        self.alone = alone and among is None
        self.clock: FakeClock = among.clock if among is not None else clock or FakeClock()
        self.exchange: LocalExchange = among.exchange if among is not None else LocalExchange()
        self.broker: EmbeddedBroker
        self.events: list[dict[str, Any]] = []
        self.written: list[dict[str, Any]] = among.written if among is not None else []
        """All deliveries to all clients of the installation, in the order they were written."""
        self._sids = itertools.count(1)

    async def open(self) -> Bench:
        clock = self.clock
        table = {**self.app.endpoints, **self.settings.endpoints}
        self.endpoints = Endpoints(table)
        self.happenings = Events(clock.wall_ms)
        for name, handler in self.app.handlers:
            self.happenings.on(name, handler)
        self.health = Health(clock.wall_ms, self.settings.health.entries)
        self.deadlines = Deadlines(clock, asyncio.get_running_loop().call_at)
        where = "sqlite:///:memory:" if self.data is None else "sqlite:///"
        self.store = await open_store(where, self.data or Path())
        self.ends = Ends(self.store, self.happenings, self.health, clock)
        self.new_mailboxes = NewMailboxes(clock)
        self.broker = await self._open_broker() if self.among is None else self.among.broker
        self.ends.forget = self.broker.ack
        self.ends.start()
        self.sessions = Sessions()
        reports = Reports(self.ends, self.happenings, self.health)
        attempts = Attempts(self.broker, self.ends, lambda: 0.0)
        self.delivery = Delivery(self.broker, self.sessions, reports, attempts, self.deadlines)
        self.delivery.holdings.making = self.new_mailboxes.join
        ids = Ids(clock.wall_ms, bytes(6))
        self.router = Router(self.endpoints, self._routes(), self.broker, reports, self.new_mailboxes, ids)
        self.revocations = Revocations(self.store, clock)
        await self.revocations.open()
        authorizer = make_authorizer(self.settings.auth, self.revocations, clock)
        await authorizer.open()
        self.authorizer = authorizer
        self.subs = SubEndpoints(self.endpoints, self.store, self.health, clock)
        await self.subs.open()
        self.installation = self._installation(f"node-{next(_NODES)}")
        self.feedback = make_feedback(
            self.router, self.delivery, self.installation, self.broker, self.new_mailboxes, self.deadlines
        )
        self.receipts, self.replies, self.marks = self.feedback[1:]
        self.watching = make_watching(
            self.feedback.own, self.broker, self.store, self.endpoints, self.installation, self.deadlines
        )
        await self.watching.open()
        registrar = Registrar(self.subs, self.revocations, self.health, clock)
        self.tokens = TokenWatch[Session](
            clock,
            lambda session: session.link.fail(Refused("token_expiring", "soon")),
            lambda session: self.delivery.end(session, Refused("token_expired", "over")),
        )
        self.core = Core(
            self.settings,
            clock,
            self.deadlines,
            self.endpoints,
            self.router,
            self.delivery,
            self.sessions,
            self.ends,
            self.happenings,
            self.health,
            authorizer,
            compile_rules(table, authenticated=self.settings.auth.enabled),
            self.revocations,
            self.tokens,
            self.broker,
            self.store,
            self.installation,
            self.subs,
            self.feedback,
            self.watching,
        )
        await self._join_the_others()
        wire(self.core)
        self.actors = Actors(self.core, registrar)
        return self

    async def _open_broker(self) -> EmbeddedBroker:
        url = "embedded://memory" if self.data is None else f"embedded://{self.data / 'journal.db'}"
        options = EmbeddedOptions(commit_delay=0.0)
        broker = EmbeddedBroker(url, self.clock, options=options, on_end=self.ends.on_broker_end)
        broker.on_removed = self.new_mailboxes.removed
        await broker.open()
        return broker

    def _installation(self, node: str) -> Installation:
        bus = LocalBus(node, self.exchange)
        directory = LocalDirectory() if self.alone else BusDirectory(bus, self.clock, settle=_SETTLE)
        others = Others(bus, directory, Asking(bus))
        authenticated = self.settings.auth.enabled
        moving = Moving(self.delivery, bus, others.asking, self.clock, authenticated=authenticated)
        sharing = Sharing(bus, others.asking, self.revocations, self.subs)
        me = NodeRecord(id=node, roles=("gateway", "router"), version="1", started_at=self.clock.wall_ms())
        installation = Installation(me, others, self.delivery, moving, sharing, self.health)
        self.delivery.elsewhere = installation
        return installation

    async def _join_the_others(self) -> None:
        """The first waits for others to say that they are there, for as long as a clock that stands still lets it."""
        opening = asyncio.ensure_future(self.installation.open())
        directory = self.installation.directory
        while not opening.done():
            if isinstance(directory, BusDirectory) and directory.deadlines is not None and self.among is None:
                directory.deadlines.run(self.clock.now + _SETTLE)
            await asyncio.sleep(0)
        await opening

    def _routes(self) -> Routes:
        routes = Routes()
        for endpoint, type_, action in self.app.routes:
            routes.add(endpoint, type_, action)
        add_configured_routes(routes, self.settings.routes)
        return routes

    async def close(self) -> None:
        await self.authorizer.close()
        await self.watching.close()
        await self.installation.close()
        await self.delivery.holdings.close()
        await self.receipts.close()
        await self.ends.close()
        if self.among is None:
            await self.broker.close()
        await self.store.close()
        self.deadlines.close()

    async def again(self) -> Bench:
        """The same data, another process."""
        await self.close()
        return await Bench(self.app, self.data, settings=self.settings, clock=self.clock).open()

    # clients

    def client(self, namespace: str, authorization: bytes | None = None) -> Client:
        """Not connected yet."""
        return Client(self, namespace, f"sid{next(self._sids)}", authorization)

    async def join(self, actor: str, pid: str | None = None, offset: str | None = None, **auth: Any) -> Client:
        """A client that has said who it is, and got its hello."""
        client = self.client("/" + actor.rpartition("/")[0])
        waits = client.prepare({"actor": actor, **auth}, pid, offset)
        if waits is not None:
            await waits
        client.open({"actor": actor, **auth}, pid, offset)
        await until(lambda: client.hellos or client.errors)
        return client

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """In small steps, as timers would; what is due is done."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(min(step, end - self.clock.now))
            self.deadlines.run(self.clock.now)
            assert self.broker.deadlines is not None
            self.broker.deadlines.run(self.clock.now)

    async def dead_letters(self, count: int = 0) -> list[DeadLetter]:
        """Those in the store, when there are at least `count`."""
        found: list[DeadLetter] = []
        async with asyncio.timeout(10):
            while True:
                found = await self.store.dead_letters(DeadLetterFilter())
                if len(found) >= count:
                    return found

    def waiting(self, address: str) -> int:
        """In the mailbox, not in flight."""
        box = self.broker.statistics_of(address)
        return box.waiting if box is not None else 0
