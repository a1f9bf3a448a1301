"""The program: `SmartRouter`, what users write their routes on, and `Node`, the composition root of one process.

SmartRouter (endpoints, routes, event handlers) ─┐
Settings (file, environment, flags) ─────────────┴─► Node ─ start ─► listener ─ gateways ─ core ─ broker, store
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from smart_router.api import create_api
from smart_router.brokers.base import Broker
from smart_router.brokers.open import make_broker
from smart_router.bus.open import make_bus
from smart_router.clock import Deadlines, SystemClock
from smart_router.config.load import endpoint_settings
from smart_router.config.schema import EndpointSettings, Settings
from smart_router.core.access import compile_rules
from smart_router.core.asking import Asking
from smart_router.core.attempts import Attempts
from smart_router.core.delivery import Delivery
from smart_router.core.endpoints import Endpoints
from smart_router.core.ends import Ends
from smart_router.core.events import EventHandler, Events
from smart_router.core.expiry import TokenWatch
from smart_router.core.feedback import make_feedback
from smart_router.core.health import Health
from smart_router.core.installation import Installation, Others, digest, node_id
from smart_router.core.limits import NewMailboxes
from smart_router.core.moving import Moving
from smart_router.core.reports import Reports
from smart_router.core.revocations import Revocations
from smart_router.core.router import Router
from smart_router.core.routes import Action, Routes
from smart_router.core.routing_config import add_configured_routes
from smart_router.core.services import Core
from smart_router.core.sessions import Session, Sessions
from smart_router.core.sharing import Sharing
from smart_router.core.subendpoints import SubEndpoints
from smart_router.core.tokens import make_authorizer
from smart_router.core.watching import make_watching
from smart_router.core.wiring import wire
from smart_router.demo import page_files, run_bot_of_node
from smart_router.directory.base import NodeRecord
from smart_router.directory.open import make_directory
from smart_router.errors import ConfigError, Refused, StorageError
from smart_router.gateways.actors import Actors
from smart_router.gateways.entrance import Entrance
from smart_router.gateways.registrar import Registrar
from smart_router.ids import Ids
from smart_router.stores.base import Store
from smart_router.stores.open import open_store

__all__ = ["EndpointRoutes", "Node", "SmartRouter"]

A = TypeVar("A", bound=Action)
_HOUSEKEEPING: Final = 60.0  # s
_log = structlog.get_logger("smart_router.node")


class EndpointRoutes:
    """One endpoint of an app: `@ui.on("talk")` binds a `def` or `async def f(ctx)`."""

    def __init__(self, app: SmartRouter, name: str) -> None:
        self._app = app
        self.name = name

    def on(self, type: str) -> Callable[[A], A]:
        """Routes messages of this type that the endpoint's actors send to the decorated action."""

        def bind(action: A) -> A:
            self._app.add_route(self.name, type, action)
            return action

        return bind


class SmartRouter:
    """What a program declares: endpoints, routes, handlers of events. `Node` runs it.

    >>> app = SmartRouter()
    >>> ui = app.endpoint("ui/{id}", sub_endpoints=["456"], mailbox="actor", ack="received")
    >>> @ui.on("talk")
    ... def talk(ctx):
    ...     ctx.publish(ctx.message.ids["agent"])
    """

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointSettings] = {}
        self.routes: list[tuple[str, str, Action]] = []
        self.handlers: list[tuple[str, EventHandler]] = []
        self.any = EndpointRoutes(self, "*")
        """Routes for every endpoint that has none of its own for the type."""

    def endpoint(self, pattern: str, **policies: Any) -> EndpointRoutes:
        """Declares an endpoint: `ui/{id}` has sub-endpoints (`sub_endpoints`: those from the start), `user` has none.

        `policies`: the keys of `[endpoints.NAME]` (docs/configuration.md). Raises ConfigError.
        """
        settings = endpoint_settings(pattern, **policies)
        if settings.name in self.endpoints:
            raise ConfigError([f"The endpoint {settings.name!r} is declared twice."])
        self.endpoints[settings.name] = settings
        return EndpointRoutes(self, settings.name)

    def add_route(self, endpoint: str, type: str, action: Action) -> None:
        if endpoint != "*" and endpoint not in self.endpoints:
            raise ConfigError([f"There is no endpoint {endpoint!r} to route {type!r} on: declare it first."])
        self.routes.append((endpoint, type, action))

    def on(self, event: str, handler: EventHandler) -> None:
        """Calls `handler` with each event of that name, a dict (docs/events.md)."""
        self.handlers.append((event, handler))


class Node:
    """One process of an installation. `start`, then `stop`; `failed` is done when the node must not go on."""

    def __init__(self, settings: Settings, app: SmartRouter | None = None) -> None:
        self.settings = settings
        self._app = app or SmartRouter()
        self._clock = SystemClock()
        self._started = False
        self.core: Core
        self.failed: asyncio.Future[StorageError]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each listening socket."""
        return self._entrance.addresses

    async def start(self) -> None:
        """Listening when this returns. Raises ConfigError, StorageError, OSError: nothing is left open then."""
        loop = asyncio.get_running_loop()
        self.failed = loop.create_future()
        self._deadlines = Deadlines(self._clock, loop.call_at)
        self._closers: list[Callable[[], Any]] = [self._deadlines.close]
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        self._started = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def _open(self) -> None:
        """The parts, from the disk up to the port."""
        settings, clock = self.settings, self._clock
        data = Path(settings.data)
        if settings.broker.url != "embedded://memory" or settings.store != "sqlite:///:memory:":
            _make_folder(data)
        store = await open_store(settings.store, data)
        self._closers.append(store.close)
        reports = self._reports(store)
        broker, new_mailboxes = await self._open_broker(data, reports)
        await self._open_core(store, broker, reports, new_mailboxes)
        registrar = Registrar(self.core.sub_endpoints, self.core.revocations, reports.health, clock)
        self._actors = Actors(self.core, registrar)
        page = page_files() if settings.demo else None
        api = create_api(self.core, parts=self.parts, ready=self.ready, static=_static(settings), page=page)
        self._entrance = Entrance(settings, self._actors, api, self._deadlines, clock)
        await self._entrance.start()
        self._closers.append(self._entrance.close)
        self.core.installation.address = _address(self.addresses)
        self._run("housekeeping", self._keep_house())
        if settings.demo:
            self._run("demo bot", run_bot_of_node(settings, self.addresses))

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A task that ends with the node."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._closers.append(task.cancel)

    def _reports(self, store: Store) -> Reports:
        events = Events(self._clock.wall_ms)
        for name, handler in self._app.handlers:
            events.on(name, handler)
        health = Health(self._clock.wall_ms, self.settings.health.entries)
        self._health = health
        return Reports(Ends(store, events, health, self._clock), events, health)

    async def _open_broker(self, data: Path, reports: Reports) -> tuple[Broker, NewMailboxes]:
        ends = reports.ends
        broker = make_broker(
            self.settings.broker,
            data,
            self._clock,
            on_end=ends.on_broker_end,
            on_failed=self._on_failed,
            on_warning=reports.health.warning,
        )
        new_mailboxes = NewMailboxes(self._clock)
        broker.on_removed = new_mailboxes.removed
        ends.forget = broker.ack
        await broker.open()
        self._closers.append(broker.close)
        ends.start()
        self._closers.append(ends.close)
        async for address in _addresses(broker):
            new_mailboxes.count(address)
        return broker, new_mailboxes

    async def _open_core(self, store: Store, broker: Broker, reports: Reports, new_mailboxes: NewMailboxes) -> None:
        settings, clock = self.settings, self._clock
        declared = self._declared = {**self._app.endpoints, **settings.endpoints}
        endpoints, sessions = Endpoints(declared), Sessions()
        attempts = Attempts(broker, reports.ends, random.random)
        delivery = Delivery(broker, sessions, reports, attempts, self._deadlines)
        delivery.holdings.making = new_mailboxes.join
        ids = Ids(clock.wall_ms, os.urandom(6))
        revocations = Revocations(store, clock)
        await revocations.open()
        subs = SubEndpoints(endpoints, store, reports.health, clock)
        await subs.open()
        installation = self._installation(delivery, revocations, subs, reports.health)
        installation.trouble = broker.trouble
        delivery.elsewhere = installation
        router = Router(endpoints, self._routes(), broker, reports, new_mailboxes, ids)
        feedback = make_feedback(router, delivery, installation, broker, new_mailboxes, self._deadlines)
        self._closers.append(feedback.receipts.close)
        watching = make_watching(feedback.own, broker, store, endpoints, installation, self._deadlines)
        await watching.open()
        authorizer = make_authorizer(settings.auth, revocations, clock)
        await authorizer.open()
        self._closers.append(authorizer.close)
        self.core = Core(
            settings=settings,
            clock=clock,
            deadlines=self._deadlines,
            endpoints=endpoints,
            router=router,
            delivery=delivery,
            sessions=sessions,
            ends=reports.ends,
            events=reports.events,
            health=reports.health,
            authorizer=authorizer,
            rules=compile_rules(declared, authenticated=settings.auth.enabled),
            revocations=revocations,
            tokens=TokenWatch(clock, _token_expiring, lambda session: delivery.end(session, _expired())),
            broker=broker,
            store=store,
            installation=installation,
            sub_endpoints=subs,
            feedback=feedback,
            watching=watching,
        )
        wire(self.core)
        await self.core.installation.open()
        self._closers.append(self.core.installation.close)
        self._closers.append(watching.close)
        self._closers.append(delivery.holdings.close)

    def _installation(
        self, delivery: Delivery, revocations: Revocations, subs: SubEndpoints, health: Health
    ) -> Installation:
        """The way to the other nodes, not open yet."""
        settings, clock = self.settings, self._clock
        me = NodeRecord(
            id=node_id(settings.node),
            roles=tuple(sorted(settings.roles)),
            version=version("smart-router"),
            started_at=clock.wall_ms(),
            configuration=digest(self._declared, settings.routes),
        )
        bus = make_bus(settings.broker.url, me.id, clock, prefix=settings.broker.prefix)
        directory = make_directory(settings.directory, settings.broker.url, bus, clock)
        others = Others(bus, directory, Asking(bus))
        moving = Moving(delivery, bus, others.asking, clock, authenticated=settings.auth.enabled)
        sharing = Sharing(bus, others.asking, revocations, subs)
        return Installation(me, others, delivery, moving, sharing, health)

    def _routes(self) -> Routes:
        routes = Routes()
        for endpoint, type_, action in self._app.routes:
            routes.add(endpoint, type_, action)
        add_configured_routes(routes, self.settings.routes)
        return routes

    async def _keep_house(self) -> None:
        """Once a minute: what has expired and is of no use."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            try:
                await self.core.revocations.trim()
            except StorageError as error:
                _log.warning("revocations_not_trimmed", error=error.message)

    def _on_failed(self, error: StorageError) -> None:
        """The journal's medium failed: nothing more is accepted, and the process ends (faults and limits, C7)."""
        self._health.error(error.message)
        _log.critical("journal_failed", error=error.message)
        if not self.failed.done():
            self.failed.set_result(error)

    def ready(self) -> list[str]:
        """Why this node should get no new clients; empty: it should."""
        if not self._started:
            return ["starting"]
        reasons = ["draining"] if self.core.router.draining else []
        trouble = self.core.broker.trouble()
        if trouble:
            reasons.append(f"broker: {trouble}")
        others = self.core.installation.statistics()
        if not others.healthy:
            reasons.append(f"installation: {others.reason}")
        store = self.core.store.statistics()
        if not store.healthy:
            reasons.append(f"store: {store.reason}")
        return reasons

    def parts(self) -> list[tuple[str, Any]]:
        """Each part's name and statistics, a typed tuple."""
        core = self.core
        return [
            ("router", core.router.statistics()),
            ("delivery", core.delivery.statistics()),
            ("heartbeats", core.delivery.heartbeats.statistics()),
            *core.feedback.parts(),
            ("presence", core.watching.statistics()),
            ("ends", core.ends.statistics()),
            ("broker", core.broker.statistics()),
            ("store", core.store.statistics()),
            ("revocations", core.revocations.statistics()),
            ("tokens", core.tokens.statistics()),
            ("installation", core.installation.statistics()),
            *self._entrance.parts(),
        ]

    async def stop(self, drain: float = 0.0) -> None:
        """Stops accepting, finishes what is in flight within `drain` s, closes. Everything accepted is safe then."""
        if self._started:
            self._started = False
            _log.info("draining", seconds=drain)
            self.core.installation.report(draining=True)
            await self._entrance.drain(drain)
            self.core.router.draining = True
            try:
                await asyncio.wait_for(self._actors.settled(), max(drain, 1.0))
            except TimeoutError:
                _log.warning("routes_cut", count=self._actors.waiting)
                await self._actors.cut()
            self.core.installation.moving.leave()
        await self._close()

    async def _close(self) -> None:
        for close in reversed(self._closers):
            outcome = close()
            if inspect.isawaitable(outcome):
                await outcome
        self._closers = []


def _token_expiring(session: Session) -> None:
    session.link.fail(
        Refused("token_expiring", "The token expires in less than 30 seconds: emit `refresh` with a new one.")
    )


def _expired() -> Refused:
    return Refused("token_expired", "The token has expired: connect again with a new one.")


def _make_folder(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"data: the folder {data} cannot be made: {error.strerror}"]) from error


def _address(addresses: list[tuple[str, int]]) -> str:
    return f"{addresses[0][0]}:{addresses[0][1]}" if addresses else ""


def _static(settings: Settings) -> Path | None:
    return Path(settings.server.static) if settings.server.static is not None else None


async def _addresses(broker: Broker) -> AsyncIterator[str]:
    """The addresses of all mailboxes there are."""
    after = ""
    while page := await broker.mailboxes(after=after, limit=1000):
        for box in page:
            yield box.address
        after = page[-1].address
