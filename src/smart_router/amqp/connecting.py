"""From a URL to an open link: hosts in turn, TLS, and what went wrong in words that name the setting."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Final

from smart_router.amqp.link import Link, describe, printable
from smart_router.amqp.url import AmqpUrl, Host
from smart_router.errors import BrokerAway, ConfigError, RouterError
from smart_router.protocols.amqp import FrameError
from smart_router.protocols.amqp_connection import CAPABILITIES, Phase

__all__ = ["Connector"]

_REFUSED: Final = 403
_VHOST: Final = (402, 530)


class Connector:
    """The hosts of a URL."""

    def __init__(self, url: AmqpUrl) -> None:
        self._url = url
        self._tls: ssl.SSLContext | None = None
        self._next_host = 0

    def prepare(self) -> None:
        """Reads the files for TLS. ConfigError names the one that cannot be used."""
        self._tls = self._url.ssl_context()

    async def connect(self, make_link: Callable[[], Link]) -> Link:
        """Each host once, beginning with the one after the last that was used. The link is open.

        ConfigError: login, virtual host, certificate or the other end is wrong. BrokerAway: nobody answers.
        """
        found: RouterError | None = None
        hosts = self._url.hosts
        for turn in range(len(hosts)):
            place = (self._next_host + turn) % len(hosts)
            try:
                link = await self._connect_to(hosts[place], make_link())
            except RouterError as error:
                found = found if isinstance(found, ConfigError) else error
            else:
                self._next_host = place + 1
                return link
        assert found is not None
        raise found

    async def _connect_to(self, host: Host, link: Link) -> Link:
        server_name = (self._url.server_name or host.name) if self._tls is not None else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._url.connect_timeout):
                await loop.create_connection(
                    lambda: link, host.name, host.port, ssl=self._tls, server_hostname=server_name
                )
                await asyncio.shield(link.opened)
            self._check(link, host)
        except (OSError, UnicodeError) as error:  # the latter: a name that no host can have
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
            raise self._url.wrong(f"{host} is {printable(server.product) or 'something unknown'}, not RabbitMQ")
        if missing := [name for name in CAPABILITIES if name not in server.capabilities]:
            raise self._url.wrong(f"{host} is too old a RabbitMQ: it cannot {', '.join(missing)}")

    def _explain_socket(self, error: Exception, host: Host) -> RouterError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._url.wrong(
                f"the certificate of {host} is not valid for us: {error.verify_message}: "
                "name its authority with `cacertfile`, its own name with `server_name_indication`"
            )
        if isinstance(error, ssl.SSLError):
            return self._url.wrong(f"{host}: the TLS handshake failed: {error.reason}: is this the port for amqps?")
        number = getattr(error, "errno", None) or 0
        said = os.strerror(number) if number > 0 else describe(error)
        return BrokerAway(f"{host} cannot be reached: {said}: see to RabbitMQ, or correct `{self._url.setting}`")

    def _explain_end(self, link: Link, host: Host) -> RouterError:
        ending, error = link.protocol.ending, link.error
        url = self._url
        if isinstance(error, FrameError):
            return url.wrong(f"{host} is no RabbitMQ, or not on this port: {error.message}")
        if ending is not None and ending.code == _REFUSED:
            return url.wrong(f"{host} refuses the login of `{url.user}`: correct user name or password")
        if ending is not None and ending.code in _VHOST:
            return url.wrong(f"{host} does not let `{url.user}` use this virtual host: {printable(ending.text)}")
        if isinstance(error, ssl.SSLError):
            return self._explain_socket(error, host)
        return BrokerAway(f"{host}: {link.reason()}: see to RabbitMQ, or correct `{url.setting}`")
