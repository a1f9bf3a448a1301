"""What a user of Redis sees: one installation of it, whichever way it is built.

    Redis(url, name=…, on_up=…, on_down=…, on_resubscribed=…)                                        client.py
      └─ open() ─► on_up()        one connection per server (a single one, Sentinel's master, each master of a Cluster)
            │
      send(tag, command, on_reply) ─► one write per event loop turn and server ─► on_reply(answer or error)
      subscribe(channel, on_message)       one connection more carries all channels; it is made again by itself, what
                                           was published meanwhile is lost: on_resubscribed()

A key is `prefix + "{" + tag + "}" + …`: the tag alone decides which server holds it, so one script may touch all keys
of a tag. Nothing here costs a task per call, and there is no connection that waits for one subscriber.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from smart_router.errors import BrokerAway, StorageError

__all__ = [
    "NotNow",
    "OnMessage",
    "OnReply",
    "RedisInstallation",
    "RedisStatistics",
    "Reply",
    "ReplyRefused",
    "Script",
    "Server",
    "Unanswered",
    "Word",
]

Word: TypeAlias = str | int | float | bytes
"""One word of a command."""

Reply: TypeAlias = Any
"""bytes, int, float, bool, None, list, dict; or, in `OnReply`, a StorageError instead of an answer."""

OnReply = Callable[[Reply], None]
"""Called once, from inside the read. A StorageError instance (never raised) is one of those of `RedisInstallation`."""

OnMessage = Callable[[bytes], None]
"""What was published on a channel."""


class Unanswered(BrokerAway):
    """The connection broke before the answer: the command may have been executed, or may not."""


class NotNow(BrokerAway):
    """Not executed; it may go again soon: the server is loading, has moved the key, or had lost the script."""


class ReplyRefused(StorageError):
    """Redis refused the command by an error that sending it again will not cure. `word`: WRONGTYPE, ERR, NOPERM, …"""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class Server(NamedTuple):
    """Who answered. `mode`: standalone, cluster. `version`: (7, 0, 15)."""

    address: str
    mode: str
    version: tuple[int, ...]


class Script:
    """A Lua script, known by its digest; loaded into each server where it is missing."""

    __slots__ = ("digest", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


class RedisStatistics(NamedTuple):
    up: bool
    reason: str  # trouble(), or ""
    servers: int
    outages: int
    commands: int
    writes: int
    bytes_written: int
    bytes_read: int
    unanswered: int


class RedisInstallation(Protocol):
    """What `client.Redis` is. Errors of answers: Unanswered, NotNow, BrokerAway (not sent: no connection),
    StorageFull (`maxmemory`), ReplyRefused."""

    up: bool
    """Every server that holds keys is connected."""

    async def open(self) -> None:
        """Connects. ConfigError: URL, login, certificate, a replica, no Redis or one too old; it names the setting.
        BrokerAway: nobody answers. Redis 7.0 or newer (Valkey too)."""

    async def close(self) -> None:
        """Writes what is waiting and ends. Calls without an answer get Unanswered; `on_down` is not called."""

    def trouble(self) -> str:
        """Why it cannot be used now, with the setting to look at; "" when it can."""

    def key(self, tag: str, rest: str) -> bytes:
        """`prefix{tag}rest`. `tag` and the prefix have no braces; `rest` may be any text."""

    def channel(self, name: str) -> bytes:
        """A channel of this installation: its name behind the prefix, and behind the database, which Redis' pub/sub
        does not know."""

    def send(self, tag: str, command: tuple[Word, ...], on_reply: OnReply) -> None:
        """Hot path: to the server of `tag`, in order of the calls. Never raises for a connection's trouble."""

    async def call(self, tag: str, *command: Word) -> Reply:
        """One command, for what is seldom; again after NotNow, for a few seconds. Raises the errors above."""

    def evaluation(self, script: Script, keys: tuple[bytes, ...], *arguments: Word) -> tuple[Word, ...]:
        """The command that runs a script, for `send` and `call`. NotNow: it was missing there and is loaded now. Keys
        are all of one tag."""

    def subscribe(self, channel: bytes, on_message: OnMessage) -> None:
        """One receiver per channel; stands at once, or with the next connection. In a Cluster any server carries it."""

    def unsubscribe(self, channel: bytes) -> None: ...

    def publish(self, channel: bytes, message: bytes) -> None:
        """At most once, in the order of the calls; dropped without a connection."""

    def servers(self) -> list[Server]:
        """Those connected now."""

    def tag_for(self, server: Server) -> str:
        """A tag whose keys that server holds: to ask each server of a Cluster something."""

    def statistics(self) -> RedisStatistics: ...
