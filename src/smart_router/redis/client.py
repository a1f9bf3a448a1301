"""One installation of Redis, kept connected. See base.py for what each method promises.

keeper ─► arrange: which servers? connect the missing ones ─► up: wait until one is lost or keys have moved
  ▲                    │ cannot                                                        │
  └──── back-off ◄─────┘ down: one log line per outage  ◄─────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final

import hiredis
import structlog

from smart_router.errors import BrokerAway, ConfigError, StorageError
from smart_router.redis.base import (
    NotNow,
    OnMessage,
    OnReply,
    RedisStatistics,
    Reply,
    Script,
    Server,
    Unanswered,
    Word,
)
from smart_router.redis.channels import Channels
from smart_router.redis.errors import error_of, is_moved, is_replica
from smart_router.redis.greeting import Greeter
from smart_router.redis.link import BROKEN, Link
from smart_router.redis.slots import SLOTS, slot_of_tag
from smart_router.redis.topology import Range, ask_sentinels, ask_slots
from smart_router.redis.url import Host, RedisUrl

__all__ = ["Redis"]

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 3.0
_PATIENCE: Final = 5.0


class Redis:
    """Connected servers by host; in a Cluster, `_slots` says which of them has a tag's keys."""

    def __init__(
        self,
        url: RedisUrl,
        *,
        name: str,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[str], None] = lambda _reason: None,
        on_resubscribed: Callable[[], None] = lambda: None,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        """`on_up()`: connected, also the first time, before `open` returns. `on_resubscribed()`: the channels' own
        connection was away for a while and stands again."""
        self.url = url
        self.up = False
        self._greeter = Greeter(url, name)
        self._on_up, self._on_down, self._on_resubscribed = on_up, on_down, on_resubscribed
        self._log = log or structlog.get_logger()
        self._links: dict[Host, Link] = {}
        self._servers: dict[Host, Server] = {}
        self._ranges: list[Range] = []
        self._slots: list[Link | None] = []
        self._single: Link | None = None
        self._channels = Channels(self._channels_refused)
        self._scripts: dict[bytes, Script] = {}
        self._tags: dict[str, int] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._disturbed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "not connected yet"
        self._down_since: float | None = None
        self._outages = 0
        self._past = [0, 0, 0, 0]  # counts of links that are gone

    # Life

    async def open(self) -> None:
        self._greeter.read_files()
        self._loop = asyncio.get_running_loop()
        try:
            await self._arrange()
        except BaseException:
            self._abort_all()
            raise
        self._became_up()
        self._keeper = self._loop.create_task(self._keep(), name="redis")
        self._timer = self._loop.call_later(1.0, self._look_at_links)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self.up = False
        self._reason = "closed"
        for link in self._all_links():
            link.close()
        self._forget_links()

    def abort(self) -> None:
        """Ends without a goodbye, as a crash would."""
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        self.up = False
        self._abort_all()

    def _all_links(self) -> list[Link]:
        return [*self._links.values(), *([self._channels.link] if self._channels.link is not None else [])]

    def _abort_all(self) -> None:
        links = self._all_links()
        self._forget_links()
        for link in links:
            link.abort()

    def _forget_links(self) -> None:
        self._links, self._servers = {}, {}
        self._slots, self._single, self._channels.link = [], None, None

    async def _keep(self) -> None:
        delay = _FIRST_DELAY
        while True:
            await self._disturbed.wait()
            self._disturbed.clear()
            try:
                await self._arrange()
            except (StorageError, ConfigError) as error:
                self._became_down(error.message)
                await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 (jitter)
                delay = min(delay * 2, _LONGEST_DELAY)
                self._disturbed.set()
                continue
            delay = _FIRST_DELAY
            self._became_up()

    def _became_up(self) -> None:
        if self.up:
            return
        self.up, self._reason = True, ""
        if self._down_since is not None:
            self._log.info("redis_back", url=str(self.url), seconds=round(self._loop.time() - self._down_since, 1))
            self._down_since = None
        self._on_up()

    def _became_down(self, reason: str) -> None:
        self._reason = reason
        if self._down_since is None:
            self._down_since = self._loop.time()
            self._outages += 1
            self._log.warning("redis_away", url=str(self.url), reason=reason)
        if self.up:
            self.up = False
            self._on_down(reason)

    # Which servers, and their connections

    async def _arrange(self) -> None:
        if self._ranges:
            await self._arrange_cluster()
        elif self._single is None:
            await self._arrange_single()
        if self._channels.link is None:
            link, _, _ = await self._greeter.connect(next(iter(self._links)), self._channels.pushed, self._lost)
            if self._channels.carry(link):
                self._on_resubscribed()

    async def _arrange_single(self) -> None:
        hosts = self.url.hosts if self.url.master is None else (await ask_sentinels(self.url, self._greeter),)
        problem: StorageError | ConfigError = BrokerAway("no host")
        for host in hosts:
            try:
                link, server, is_master = await self._connect(host)
            except (BrokerAway, ConfigError) as error:
                problem = error
                continue
            if server.mode == "cluster":
                await self._arrange_cluster()
                return
            if is_master:
                self._single = link
                return
            self._drop(link)
            problem = self.url.wrong(f"{host} is a replica: name its master")
            if self.url.master is not None:
                problem = BrokerAway(f"Redis at {host} is not the master yet")
        raise problem

    async def _arrange_cluster(self) -> None:
        ranges = await self._ask_ranges()
        masters = {found.master for found in ranges}
        for host in masters - set(self._links):
            link, _, is_master = await self._connect(host)
            if not is_master:
                self._drop(link)
                raise BrokerAway(f"Redis at {host} is not the master yet")
        for host in set(self._links) - masters:
            self._drop(self._links[host])
        slots: list[Link | None] = [None] * SLOTS
        for found in ranges:
            slots[found.first : found.last + 1] = [self._links.get(found.master)] * (found.last - found.first + 1)
        self._ranges, self._slots, self._single = ranges, slots, None
        if None in slots:
            raise BrokerAway("a master of the Redis Cluster closed the connection")

    async def _ask_ranges(self) -> list[Range]:
        """Asks those we know, then those of the URL."""
        problem: StorageError | ConfigError = BrokerAway("no host")
        known = [*self._links, *(found.master for found in self._ranges), *self.url.hosts]
        for host in dict.fromkeys(known):
            try:
                link = self._links.get(host) or (await self._connect(host))[0]
                return await ask_slots(link, host, self.url.timeout)
            except (StorageError, ConfigError) as error:
                problem = error
        raise problem

    async def _connect(self, host: Host) -> tuple[Link, Server, bool]:
        link, server, is_master = await self._greeter.connect(host, lambda _parts: None, self._lost)
        for script in self._scripts.values():
            link.send(("SCRIPT", "LOAD", script.text), lambda _answer: None)
        self._links[host], self._servers[host] = link, server
        return link, server, is_master

    def _drop(self, link: Link) -> None:
        self._unlink(link)
        link.close()

    def _unlink(self, link: Link) -> bool:
        """False: it was not one of ours any more."""
        if link is self._channels.link:
            self._channels.link = None
            return True
        for host, mine in list(self._links.items()):
            if mine is link:
                del self._links[host], self._servers[host]
                counts = (link.commands, link.writes, link.bytes_written, link.bytes_read)
                self._past = [a + b for a, b in zip(self._past, counts, strict=True)]
                if link is self._single:
                    self._single = None
                self._slots = [None if mine is link else mine for mine in self._slots]
                return True
        return False

    def _lost(self, link: Link, reason: str) -> None:
        carrier = link is self._channels.link
        if not self._unlink(link):
            return
        if not carrier:
            self._became_down(f"the connection ended: {reason}")
        self._disturbed.set()

    def _look_at_links(self) -> None:
        """Each second: a server that owes an answer for too long is away; one that is idle is asked."""
        self._timer = self._loop.call_later(1.0, self._look_at_links)
        now = self._loop.time()
        for link in self._all_links():
            if link.unanswered and now - link.asked_at > self.url.timeout:
                link.abort()
            elif now - link.heard_at > self.url.timeout / 2 and not link.unanswered:
                link.send(("PING",), lambda _answer: None)

    # Calls

    def key(self, tag: str, rest: str) -> bytes:
        return f"{self.url.prefix}{{{tag}}}{rest}".encode()

    def channel(self, name: str) -> bytes:
        database = f"{self.url.database}:" if self.url.database else ""
        return f"{self.url.prefix}{database}{name}".encode()

    def _link(self, tag: str) -> Link | None:
        if self._single is not None:
            return self._single
        if not self._slots:
            return None
        slot = self._tags.get(tag)
        if slot is None:
            slot = slot_of_tag(tag)
            if len(self._tags) < SLOTS:
                self._tags[tag] = slot
        return self._slots[slot]

    def send(self, tag: str, command: tuple[Word, ...], on_reply: OnReply) -> None:
        link = self._link(tag)
        if link is None:
            on_reply(BrokerAway(f"Redis is away: {self._reason}"))
        else:
            link.send(command, partial(self._answered, link, on_reply))

    def _answered(self, link: Link, on_reply: OnReply, answer: Reply) -> None:
        if answer is BROKEN:
            answer = Unanswered("the connection to Redis broke before the answer")
        elif isinstance(answer, hiredis.ReplyError):
            answer = self._translate(link, str(answer))
        on_reply(answer)

    def _translate(self, link: Link, text: str) -> StorageError:
        if text.startswith("NOSCRIPT"):
            for script in self._scripts.values():
                link.send(("SCRIPT", "LOAD", script.text), lambda _answer: None)
        elif is_moved(text):
            self._disturbed.set()
        elif is_replica(text):
            self._became_down("this Redis is a replica now: name the master")
            self._loop.call_soon(link.abort)
            return NotNow("this Redis is a replica now: try again soon")
        return error_of(text)

    async def call(self, tag: str, *command: Word) -> Reply:
        until = self._loop.time() + _PATIENCE
        delay = 0.01
        while True:
            future: asyncio.Future[Reply] = self._loop.create_future()
            self.send(tag, command, partial(_settle, future))
            answer = await future
            if not isinstance(answer, StorageError):
                return answer
            if not isinstance(answer, NotNow) or self._loop.time() >= until:
                raise answer
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.5)

    def evaluation(self, script: Script, keys: tuple[bytes, ...], *arguments: Word) -> tuple[Word, ...]:
        if script.digest not in self._scripts:
            self._scripts[script.digest] = script
        return ("EVALSHA", script.digest, len(keys), *keys, *arguments)

    # Channels

    def subscribe(self, channel: bytes, on_message: OnMessage) -> None:
        self._channels.subscribe(channel, on_message)

    def unsubscribe(self, channel: bytes) -> None:
        self._channels.unsubscribe(channel)

    def _channels_refused(self, text: str) -> None:
        self._log.error("redis_refused", reason=f"{error_of(text).message} (channels {self.url.prefix}*)")

    def publish(self, channel: bytes, message: bytes) -> None:
        link = self._single or next(iter(self._links.values()), None)
        if link is not None:
            link.send(("PUBLISH", channel, message), lambda _answer: None)

    # What it knows

    def trouble(self) -> str:
        return "" if self.up else f"Redis is away: {self._reason} ({self.url.setting})"

    def servers(self) -> list[Server]:
        return list(self._servers.values())

    def tag_for(self, server: Server) -> str:
        for found in self._ranges:
            if str(found.master) == server.address:
                wanted = range(found.first, found.last + 1)
                return next(tag for tag in map(str, range(SLOTS * 16)) if slot_of_tag(tag) in wanted)
        return "0"

    def statistics(self) -> RedisStatistics:
        links = list(self._links.values())
        commands, writes, written, read = self._past
        return RedisStatistics(
            up=self.up,
            reason=self.trouble(),
            servers=len(links),
            outages=self._outages,
            commands=commands + sum(link.commands for link in links),
            writes=writes + sum(link.writes for link in links),
            bytes_written=written + sum(link.bytes_written for link in links),
            bytes_read=read + sum(link.bytes_read for link in links),
            unanswered=sum(link.unanswered for link in links),
        )


def _settle(future: asyncio.Future[Reply], answer: Reply) -> None:
    if not future.done():
        future.set_result(answer)
