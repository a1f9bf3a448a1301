"""Keeps one actor connected: open, identify, run, and after a cut the same again, later.

open ─► identify ─► hello ─► Link.run ─► Cut ─► come back? ── no ──► raises why
  ▲                                              │ yes
  └───────────── back-off, or the server's delay ◄┘
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import NamedTuple, TypeAlias

import msgspec

from smart_router.client.backoff import Backoff
from smart_router.client.errors import Closed, Cut
from smart_router.client.inbox import Inbox
from smart_router.client.link import Link
from smart_router.client.outbox import Outbox
from smart_router.client.settings import ClientSettings
from smart_router.client.transport import Opener, open_websocket
from smart_router.errors import ProtocolError, Refused
from smart_router.protocols.plain import Hello, Identify, Resume
from smart_router.protocols.plain_close import CloseCode, ComeBack, come_back

__all__ = ["Account", "Keeper", "Token", "World"]

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A token, or what gives a fresh one whenever it is needed: for each connection, and before the old one expires."""

OnError: TypeAlias = Callable[[Refused], None]
REFUSED_TOKENS = 2
"""So many fresh tokens in a row may be refused before the client gives up."""

_log = logging.getLogger("smart_router.client")


class World(NamedTuple):
    """What a client takes from outside: connections, time, chance. Tests give their own."""

    open: Opener = open_websocket
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Random = SystemRandom()


class Account(NamedTuple):
    """Where, and as whom."""

    url: str
    actor: str
    token: Token


class Keeper:
    """`run` goes on until it is cancelled, or raises why it makes no sense to come back."""

    def __init__(self, account: Account, settings: ClientSettings, world: World, on_error: OnError | None) -> None:
        wake = asyncio.Event()
        self.inbox = Inbox(settings, wake)
        self.outbox = Outbox(settings, wake)
        self.inbox.reply = self.outbox.reply
        self.ready = asyncio.Event()
        """Set at the first `hello`, and stays."""
        self.hello: Hello | None = None
        """Of the present connection; None: there is none."""
        self.connections = 0
        self.status = settings.status
        """As the session says it, on the next connections too."""
        self._account = account
        self._settings = settings
        self._world = world
        self._wake = wake
        self._on_error = on_error
        self._token = account.token
        self._pid: str | None = None
        self._backoff = Backoff(settings.first_delay, settings.max_delay, world.random)
        self._refused_tokens = 0
        self._refreshing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Raises Refused, ProtocolError, ValueError (the URL), or what the token's function raised."""
        try:
            while True:
                await self._world.sleep(await self._once())
        finally:
            if self._refreshing is not None:
                self._refreshing.cancel()

    async def refresh(self, token: str) -> None:
        """Uses this token from now on. Refused: the router will not have it."""
        await self.outbox.refresh(token)
        self._token = token

    async def _once(self) -> float:
        """One connection to its end; how long to wait before the next."""
        try:
            await self._connection()
        except Cut as cut:
            pause = self._after(cut)
            _log.info("%s; next try in %.1f s", cut, pause)
            return pause
        except Refused as error:
            if error.code in {"unauthorized", "token_expired"}:
                self._count_refused_token(error)
            elif not error.temporary:
                raise
            return self._backoff.next()
        raise AssertionError("a connection ends with an exception")

    async def _connection(self) -> None:
        identify = await self._identify()
        transport = await self._world.open(self._account.url, self._settings)
        link = Link(transport, self.inbox, self.outbox, self._wake, self._told)
        try:
            self._welcomed(await self._greet(link, identify))
            await link.run()
        finally:
            self.hello = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.drain):
                    await link.flush()
            await transport.close()

    async def _greet(self, link: Link, identify: Identify) -> Hello:
        try:
            async with asyncio.timeout(self._settings.open_timeout):
                return await link.greet(identify)
        except TimeoutError as error:
            raise Cut(CloseCode.BUSY, "no hello in time") from error

    async def _identify(self) -> Identify:
        resume = None if self._pid is None else Resume(self._pid, self.inbox.offset)
        identify = Identify(self._account.actor, await self._fresh_token(), True, resume)
        own = self._settings
        said = {"daemon": own.daemon, "status": self.status, "metadata": own.metadata, "lease": own.lease}
        for name, value in said.items():
            if value is not None:
                setattr(identify, name, msgspec.Raw(msgspec.json.encode(value)))
        return identify

    def _welcomed(self, hello: Hello) -> None:
        self.hello = hello
        self._pid = hello.pid
        self.connections += 1
        self._refused_tokens = 0
        self._backoff.reset()
        self.ready.set()

    def _after(self, cut: Cut) -> float:
        """Seconds until the next try; raises if there should be none."""
        advice = come_back(cut.code)
        if advice is ComeBack.REAUTHORIZED:
            self._count_refused_token(Refused("unauthorized", str(cut)))
        elif cut.code == CloseCode.FORBIDDEN:
            raise Refused("forbidden", str(cut)) from cut
        elif advice is ComeBack.NEVER:
            raise ProtocolError(str(cut), close_code=cut.code) from cut
        if cut.code == CloseCode.TOO_LARGE:
            self.outbox.refuse_largest()
        if cut.code == CloseCode.TAKEN_OVER:
            self._pid = None
        return self._backoff.next() if cut.delay is None else cut.delay

    def _count_refused_token(self, error: Refused) -> None:
        self._refused_tokens += 1
        if not callable(self._token) or self._refused_tokens > REFUSED_TOKENS:
            raise error

    def _told(self, error: Refused) -> None:
        if error.code == "token_expiring" and callable(self._token):
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_report)
        elif self._on_error is not None:
            self._on_error(error)
        else:
            _log.warning("the router reports %s: %s", error.code, error.message)

    async def _refresh(self) -> None:
        """If this fails the router cuts when the old token expires, and the next connection asks for a token again."""
        token = await self._fresh_token()
        if token is not None:
            with contextlib.suppress(Closed):
                await self.outbox.refresh(token)

    async def _fresh_token(self) -> str | None:
        if not callable(self._token):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("no new token: %s", type(error).__name__, exc_info=error)
