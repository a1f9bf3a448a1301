"""Which servers hold the keys: a single one, the master that Sentinels name, or the masters of a Cluster."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import hiredis

from smart_router.errors import BrokerAway, ConfigError, StorageError
from smart_router.redis.base import Reply
from smart_router.redis.greeting import Greeter, ask
from smart_router.redis.link import Link
from smart_router.redis.slots import SLOTS
from smart_router.redis.url import Host, RedisUrl

__all__ = ["Range", "ask_sentinels", "ask_slots"]

_FORM: Final = "it answers no question about the Cluster's slots"


class Range(NamedTuple):
    """Slots first … last, and the master that has them."""

    first: int
    last: int
    master: Host


async def ask_sentinels(url: RedisUrl, greeter: Greeter) -> Host:
    """The master of the URL's name. BrokerAway when no Sentinel knows one now; ConfigError when none can ever."""
    assert url.master is not None
    problem: StorageError | ConfigError | None = None
    for host in url.hosts:
        try:
            link = await greeter.connect_sentinel(host)
        except (StorageError, ConfigError) as error:
            problem = error
            continue
        try:
            async with asyncio.timeout(url.timeout):
                found = await ask(link, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.master)
        except (TimeoutError, BrokerAway):
            continue
        finally:
            link.close()
        if isinstance(found, list):
            return Host(found[0].decode(), int(found[1]))
        problem = url.wrong(f"the Sentinel {host} knows no master of the name in `master`")
    raise problem or BrokerAway("no Sentinel answers")


async def ask_slots(link: Link, host: Host, timeout: float) -> list[Range]:
    """The Cluster's map as this server knows it. BrokerAway when it does not cover all slots."""
    try:
        async with asyncio.timeout(timeout):
            answer = await ask(link, "CLUSTER", "SLOTS")
    except TimeoutError:
        link.abort()
        raise BrokerAway(f"Redis at {host} does not answer") from None
    if isinstance(answer, hiredis.ReplyError) or not isinstance(answer, list):
        raise BrokerAway(f"Redis at {host}: {_FORM}")
    ranges = [_range(item, host) for item in answer]
    if sum(found.last - found.first + 1 for found in ranges) != SLOTS:
        raise BrokerAway("a part of the Redis Cluster has no master now")
    return ranges


def _range(item: list[Reply], host: Host) -> Range:
    first, last, master = item[0], item[1], item[2]
    name = master[0].decode() if master[0] else ""
    return Range(first, last, Host(name if name not in ("", "?") else host.name, master[1]))
