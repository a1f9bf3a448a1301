"""A connection to RabbitMQ that comes back by itself, and its channels.

open ─► up ─(lost)─► away ─(back-off, host after host)─► up ─► … ─► close
         └ on_up()     └ channels' on_closed, then on_down
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Final

import structlog

from smart_router.amqp.base import (
    ConnectionStatistics,
    Counters,
    OnCancel,
    OnClosed,
    OnConfirm,
    OnDown,
    OnReturn,
    OnUp,
    OnWritable,
)
from smart_router.amqp.channel import Channel
from smart_router.amqp.connecting import Connector
from smart_router.amqp.link import Link
from smart_router.amqp.url import AmqpUrl
from smart_router.errors import BrokerAway, RouterError, StorageError
from smart_router.protocols.amqp_connection import Login, Server, Tuning

__all__ = ["AmqpConnection"]

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between attempts, doubled each time, with jitter."""

STEADY: Final = 1.0
"""Seconds after which a connection counts as one that stands: the next outage begins with the first wait."""

GOODBYE: Final = 2.0

_log = structlog.get_logger("smart_router.amqp")


class AmqpConnection:
    """One TCP or TLS connection to one of the URL's hosts, with at most `channel_max` channels.

    `on_up()` is awaited whenever the connection stands, also the first time: open channels, declare, consume there. If
    it raises, the connection is given up and made again after the back-off. `on_down(reason)` follows the `on_closed`
    of every channel. `on_writable()` is called when `writable` becomes True again.
    """

    def __init__(
        self,
        url: AmqpUrl,
        name: str,
        random: Random,
        *,
        on_up: OnUp,
        on_down: OnDown,
        on_writable: OnWritable = lambda: None,
    ) -> None:
        """`name` is shown in RabbitMQ's lists and in our log."""
        self.url = url
        self.name = name
        self.counters = Counters()
        self.server: Server | None = None  # None: not yet connected
        self._random = random
        self._on_up = on_up
        self._on_down = on_down
        self._on_writable = on_writable
        self._connector = Connector(url)
        self._link: Link | None = None
        self._reason = "not open yet"
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # -- for everybody

    async def open(self) -> None:
        """Connects, tries each host once, and runs `on_up`.

        ConfigError: login, virtual host, certificate or the other end (no RabbitMQ) is wrong: says which setting.
        BrokerAway: nobody answers. What `on_up` raises comes out too.
        """
        self._connector.prepare()
        self._reason = "not open yet"
        try:
            await self._stand_up()
        except BaseException:
            await self.close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"amqp {self.name}")

    async def close(self) -> None:
        """Writes what waits, says goodbye, and comes back no more. `on_closed` and `on_down` are not called."""
        self._reason = "closed"
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper
        link, self._link = self._link, None
        if link is not None:
            await link.say_goodbye(GOODBYE)

    def drop(self, reason: str) -> None:
        """Ends the connection, as an outage would, and makes it again: for who finds that it must begin anew."""
        if self._link is not None:
            self._link.abort(StorageError(reason))

    def trouble(self) -> str:
        """Why messages cannot be published now; "" when they can. A full buffer is no trouble: see `writable`."""
        if self._link is None or self._reason:
            return f"{self.url}: {self._reason}"
        blocked = self._link.blocked
        return f"{self.url}: RabbitMQ takes no messages: {blocked}" if blocked else ""

    @property
    def up(self) -> bool:
        """The connection stands; `on_up` may still be running."""
        return self._link is not None

    @property
    def writable(self) -> bool:
        """False: publishing would be refused: away, an alarm of the broker, or 1 MiB waits for the socket."""
        return self._link is not None and self._link.writable

    def channel(
        self,
        *,
        on_closed: OnClosed,
        on_confirm: OnConfirm = lambda number, multiple, ok: None,
        on_return: OnReturn = lambda code, text, exchange, routing_key, properties, body: None,
        on_cancel: OnCancel = lambda consumer_tag: None,
    ) -> Channel:
        """A channel that is not open yet; it may be opened again after each outage."""
        return Channel(self, on_closed, on_confirm, on_return, on_cancel)

    def link(self) -> Link:
        """For channels. BrokerAway: there is none."""
        if self._link is None:
            raise BrokerAway(f"{self.url}: {self._reason}")
        return self._link

    def statistics(self) -> ConnectionStatistics:
        counters, link = self.counters, self._link
        return ConnectionStatistics(
            up=link is not None,
            reason=self.trouble(),
            channels=len(link.protocol.channels) - 1 if link is not None else 0,
            outages=counters.outages,
            published=counters.published,
            confirmed=counters.confirmed,
            returned=counters.returned,
            writes=counters.writes,
            bytes_written=counters.bytes_written,
            bytes_read=counters.bytes_read,
            bytes_waiting=link.bytes_waiting if link is not None else 0,
        )

    # -- staying connected

    async def _stand_up(self) -> None:
        self._lost.clear()
        link = await self._connector.connect(self._make_link)
        if link.ended.done():  # lost in the same moment
            raise BrokerAway(link.reason())
        self._link = link
        self.server = link.protocol.server
        await self._on_up()
        self.link()  # lost meanwhile?
        self._reason = ""

    def _make_link(self) -> Link:
        wanted = Tuning(channel_max=self.url.channel_max, heartbeat=self.url.heartbeat)
        login = Login(self.url.user, self.url.password, self.url.vhost, self.name)
        return Link(login, wanted, self.counters, self._note_lost, self._on_writable)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            await self._lost.wait()
            failures = 0 if loop.time() - since > STEADY else failures
            away = loop.time()
            self.counters.outages += 1
            _log.error("amqp_away", connection=self.name, reason=self._reason)
            while not await self._try_again(failures):
                failures += 1
            failures += 1
            _log.warning("amqp_back", connection=self.name, broker=str(self.url), seconds=round(loop.time() - away, 1))

    async def _try_again(self, failures: int) -> bool:
        longest = min(FIRST_WAIT * 2 ** min(failures, 20), LONGEST_WAIT)
        await asyncio.sleep(longest * self._random.uniform(0.5, 1))
        try:
            await self._stand_up()
        except RouterError as error:
            self._give_up(error.message)
        except Exception as error:  # noqa: BLE001 (somebody else's code; logged with its trace)
            _log.error("amqp_callback_failed", connection=self.name, exc_info=error)
            self._give_up("what is to be done after connecting failed: see the log")
        else:
            return True
        return False

    def _give_up(self, reason: str) -> None:
        self.drop(reason)
        self._reason = reason

    def _note_lost(self, link: Link) -> None:
        if link is not self._link:
            return  # it never stood, or we have closed it
        self._link = None
        self._reason = link.reason()
        self._lost.set()
        self._on_down(self._reason)
