"""A connection to RabbitMQ that comes back by itself, and its channels.

open ─► up ─(lost)─► away ─(back-off, host after host)─► up ─► … ─► close
         └ on_up()     └ channels' on_closed, then on_down
"""

from __future__ import annotations

import asyncio
import os
import ssl
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
from smart_router.amqp.link import Link, describe, printable
from smart_router.amqp.url import AmqpUrl, Host
from smart_router.errors import BrokerAway, ConfigError, RouterError, StorageError
from smart_router.protocols.amqp import FrameError
from smart_router.protocols.amqp_connection import CAPABILITIES, Login, Phase, Server, Tuning

__all__ = ["AmqpConnection"]

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds between attempts, doubled each time, with jitter."""

GOODBYE: Final = 2.0

_REFUSED, _INVALID_PATH, _NOT_ALLOWED = 403, 402, 530

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
        self._tls: ssl.SSLContext | None = None
        self._link: Link | None = None
        self._reason = "not open yet"
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = True
        self._next_host = 0

    # -- for everybody

    async def open(self) -> None:
        """Connects, tries each host once, and runs `on_up`.

        ConfigError: login, virtual host, certificate or the other end (no RabbitMQ) is wrong: says which setting.
        BrokerAway: nobody answers. What `on_up` raises comes out too.
        """
        self._tls = self.url.ssl_context()
        self._closed = False
        try:
            await self._stand_up()
        except BaseException:
            await self.close()
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"amqp {self.name}")

    async def close(self) -> None:
        """Writes what waits, says goodbye, and comes back no more. `on_closed` and `on_down` are not called."""
        self._closed = True
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
        link = await self._connect()
        if link.ended.done():  # lost in the same moment
            raise BrokerAway(link.reason())
        self._link = link
        self.server = link.protocol.server
        await self._on_up()
        self.link()  # lost meanwhile?
        self._reason = ""

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            await self._lost.wait()
            failures = 0 if loop.time() - since > LONGEST_WAIT else failures
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
            _log.error("amqp_callback_failed", exc_info=error)
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

    # -- connecting

    async def _connect(self) -> Link:
        """Beginning with the host after the last one that was used."""
        found: RouterError | None = None
        hosts = self.url.hosts
        for turn in range(len(hosts)):
            place = (self._next_host + turn) % len(hosts)
            try:
                link = await self._connect_to(hosts[place])
            except RouterError as error:
                found = found if isinstance(found, ConfigError) else error
            else:
                self._next_host = place + 1
                return link
        assert found is not None
        raise found

    async def _connect_to(self, host: Host) -> Link:
        login = Login(self.url.user, self.url.password, self.url.vhost, self.name)
        wanted = Tuning(channel_max=self.url.channel_max, heartbeat=self.url.heartbeat)
        link = Link(login, wanted, self.counters, self._note_lost, self._on_writable)
        server_name = (self.url.server_name or host.name) if self._tls is not None else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.url.connect_timeout):
                await loop.create_connection(
                    lambda: link, host.name, host.port, ssl=self._tls, server_hostname=server_name
                )
                await asyncio.shield(link.opened)
            self._check(link, host)
        except OSError as error:
            link.abort(error)
            raise self._explain_socket(error, host) from error
        except BaseException as error:
            link.abort(ConnectionAbortedError())
            raise error
        return link

    def _check(self, link: Link, host: Host) -> None:
        """It got as far as `open-ok`, and it is a RabbitMQ that can what we need."""
        protocol = link.protocol
        if protocol.phase is not Phase.OPEN:
            raise self._explain_end(link, host)
        server = protocol.server
        assert server is not None
        if server.product != "RabbitMQ":
            raise self.url.wrong(f"{host} is {printable(server.product) or 'something unknown'}, not RabbitMQ")
        if missing := [name for name in CAPABILITIES if name not in server.capabilities]:
            raise self.url.wrong(f"{host} is too old a RabbitMQ: it cannot {', '.join(missing)}")

    def _explain_socket(self, error: OSError, host: Host) -> RouterError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self.url.wrong(
                f"the certificate of {host} is not valid for us: {error.verify_message}: "
                "name its authority with `cacertfile`, its own name with `server_name_indication`"
            )
        if isinstance(error, ssl.SSLError):
            return self.url.wrong(f"{host}: the TLS handshake failed: {error.reason}: is this the port for amqps?")
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else describe(error)
        return BrokerAway(f"{host} cannot be reached: {said}: see to RabbitMQ, or correct `{self.url.setting}`")

    def _explain_end(self, link: Link, host: Host) -> RouterError:
        ending, error = link.protocol.ending, link.error
        url = self.url
        if isinstance(error, FrameError):
            return url.wrong(f"{host} is no RabbitMQ, or not on this port: {error.message}")
        if ending is not None and ending.code == _REFUSED:
            return url.wrong(f"{host} refuses the login of `{url.user}`: correct user name or password")
        if ending is not None and ending.code in (_INVALID_PATH, _NOT_ALLOWED):
            return url.wrong(f"{host} does not let `{url.user}` use this virtual host: {printable(ending.text)}")
        if isinstance(error, ssl.SSLError):
            return self._explain_socket(error, host)
        return BrokerAway(f"{host}: {link.reason()}: see to RabbitMQ, or correct `{url.setting}`")
