"""An actor, as a program has it: send, receive, and stay connected.

async with connect("ws://127.0.0.1:8080/ws", actor="agent/456/alice") as client:
    await client.send("talkback", ids={"ui": "ui/456/u1"}, payload={"text": "hello"})
    async for message in client:
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from smart_router.client.errors import Closed
from smart_router.client.inbox import InboxStatistics
from smart_router.client.keeper import Account, Keeper, OnError, Token, World
from smart_router.client.message import Accepted, Message, Reply, encode_message
from smart_router.client.outbox import OutboxStatistics
from smart_router.client.presence import Presence, encode_actors, encode_status, read_presence
from smart_router.client.settings import ClientSettings
from smart_router.errors import ProtocolError, Refused

__all__ = ["Client", "ClientStatistics", "connect"]

_DEFAULTS = ClientSettings()
_WORLD = World()
_GRACE = 1.0
"""s that a request waits longer than the router does, whose answer says more."""


class ClientStatistics(NamedTuple):
    connected: bool
    connections: int
    inbox: InboxStatistics
    outbox: OutboxStatistics


def connect(
    url: str,
    *,
    actor: str,
    token: Token = None,
    on_error: OnError | None = None,
    settings: ClientSettings = _DEFAULTS,
    world: World = _WORLD,
) -> Client:
    """A client for `async with`, which waits for the first `hello`, trying again while the server is away.

    It raises what makes trying senseless: Refused (the actor or its token), ProtocolError, ValueError (the URL).
    `on_error`: hears errors that belong to no `send`; without it they are logged.
    """
    return Client(Account(url, actor, token), settings, world, on_error)


class Client:
    """One actor's session, which outlives its connections.

    Sends: accepted is kept; what has no answer is repeated after a cut with the same `options.id`, so nothing doubles.
    Receives: each message once, within the window of `dedup_keys`. Where the endpoint's `ack` is `received`, it is
    confirmed when the application takes it; where it is `client`, by `message.ack()`, after which it never comes again.
    """

    def __init__(self, account: Account, settings: ClientSettings, world: World, on_error: OnError | None) -> None:
        self.actor = account.actor
        self._account = account
        self._settings = settings
        self._world = world
        self._on_error = on_error
        self._keeper: Keeper | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed: Closed | None = None

    async def __aenter__(self) -> Client:
        self._closed = None
        self._keeper = Keeper(self._account, self._settings, self._world, self._on_error)
        self._task = asyncio.create_task(self._keeper.run())
        self._task.add_done_callback(self._ended)
        ready = asyncio.create_task(self._keeper.ready.wait())
        try:
            await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._stop(self._task)
            raise
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif self._task is not None:
            await self._stop(self._task)

    async def close(self) -> None:
        """Waits up to `settings.drain` seconds for the answers to what was sent, then says goodbye. Again: nothing."""
        if self._task is None or self._keeper is None:
            return
        idle = asyncio.create_task(self._keeper.outbox.idle.wait())
        try:
            await asyncio.wait({self._task, idle}, timeout=self._settings.drain, return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
            await self._stop(self._task)

    async def send(
        self,
        type: str,
        *,
        ids: Mapping[str, object],
        payload: object = msgspec.UNSET,
        metadata: object = msgspec.UNSET,
        options: Mapping[str, object] | None = None,
    ) -> Accepted:
        """Returns when the message is safe in every mailbox it goes to; waits through cuts.

        Raises Refused with the router's code (`busy`, at once: too many wait already), or Closed. Cancelled, it is not
        repeated any more; whether it was routed is then unknown. Bytes in a payload go as `Binary(…)`.
        """
        answer = await self._open().outbox.send(type, *encode_message(ids, payload, metadata, self._keyed(options)))
        return _accepted(answer)

    def post(
        self,
        type: str,
        *,
        ids: Mapping[str, object],
        payload: object = msgspec.UNSET,
        metadata: object = msgspec.UNSET,
        options: Mapping[str, object] | None = None,
    ) -> None:
        """As `send`, without an answer: a cut may lose it, refusals go to `on_error`. Refused `busy`, Closed."""
        self._open().outbox.post(
            type, *encode_message(ids, payload, metadata, dict(options) if options else msgspec.UNSET)
        )

    async def request(
        self,
        to: str | Mapping[str, object],
        type: str,
        payload: object = msgspec.UNSET,
        *,
        timeout: float = 30.0,
        metadata: object = msgspec.UNSET,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """Sends, and returns the recipient's reply; waits through cuts, `timeout` seconds in all.

        `to`: an address, which goes to the route as `ids.to`, or the `ids`. A recipient that is away for longer does
        not get it any more, unless `options` has another `ttl`. Refused: `reply_timeout`, `reply_refused` (it ended
        other than delivered), `no_recipient`, or as `send`; Closed.
        """
        ids = {"to": to} if isinstance(to, str) else to
        asked = self._keyed({"reply": timeout, "ttl": timeout, **(options or {})})
        future = self._open().outbox.send(type, *encode_message(ids, payload, metadata, asked))
        try:
            async with asyncio.timeout(timeout + _GRACE):
                answer = await future
        except TimeoutError:
            raise Refused("reply_timeout", "no reply came in time; the message may still be delivered") from None
        return _replied(answer)

    async def mark_read(self, message: Message | str) -> None:
        """Tells its sender, if it asked for that, that the message (or its id) was read. Acknowledge it before.

        Refused `unknown_message`: its sender did not ask, or it came more than an hour ago.
        """
        await self._open().outbox.read(message if isinstance(message, str) else message.id)

    async def set_status(self, status: str) -> None:
        """`active`, `idle` or `away`: part of this actor's presence from now on, after a cut too."""
        keeper = self._open()
        await keeper.outbox.send("status", encode_status(status), ())
        keeper.status = status

    async def presence(self, *actors: str) -> list[Presence]:
        """Whether they are there now; at most 1,000. Refused: this actor may not know it of all of them."""
        return read_presence(await self._open().outbox.send("presence", encode_actors(actors), ()))

    async def watch(self, *actors: str) -> list[Presence]:
        """As `presence`; from now on their changes come as messages of the type `presence`, until `unwatch`."""
        return read_presence(await self._open().outbox.send("watch", encode_actors(actors), ()))

    async def unwatch(self, *actors: str) -> None:
        await self._open().outbox.send("unwatch", encode_actors(actors), ())

    async def receive(self) -> Message:
        """The next message. Closed, with the reason as its cause, when none will come any more."""
        if self._keeper is None:
            raise Closed("the client is not open: use `async with`")
        return await self._keeper.inbox.take()

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Message:
        """Ends when the application closes the client; raises Closed when something else did."""
        try:
            return await self.receive()
        except Closed as closed:
            if closed.__cause__ is not None:
                raise
            raise StopAsyncIteration from None

    async def refresh(self, token: str) -> None:
        """A new token, for this connection and the next ones. Refused: the router will not have it."""
        await self._open().refresh(token)

    def statistics(self) -> ClientStatistics:
        keeper = self._keeper
        if keeper is None:
            raise Closed("the client is not open: use `async with`")
        return ClientStatistics(
            keeper.hello is not None, keeper.connections, keeper.inbox.statistics(), keeper.outbox.statistics()
        )

    def _open(self) -> Keeper:
        if self._closed is not None:
            raise self._closed.again()
        if self._keeper is None:
            raise Closed("the client is not open: use `async with`")
        return self._keeper

    def _keyed(self, options: Mapping[str, object] | None) -> dict[str, object]:
        """With an `id` of ours where the application gave none: it makes repeats harmless."""
        return {"id": f"{self._world.random.getrandbits(128):032x}", **(options or {})}

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nothing more comes or goes; told to everybody who waits."""
        error = None if task.cancelled() else task.exception()
        self._closed = Closed("the client is closed" if error is None else f"the client gave up: {error}")
        self._closed.__cause__ = error
        if self._keeper is not None:
            self._keeper.inbox.close(self._closed)
            self._keeper.outbox.fail(self._closed)

    @staticmethod
    async def _stop(task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task})


def _accepted(answer: bytes) -> Accepted:
    told = msgspec.json.decode(answer, type=_AcceptedAnswer)
    return Accepted(told.id, told.status)


def _replied(answer: bytes) -> Reply:
    try:
        told = msgspec.json.decode(answer, type=_Replied)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ProtocolError("the server sent a reply of another shape") from error
    return Reply(told.reply, told.sender, told.id)


class _Replied(msgspec.Struct, gc=False):
    id: str
    reply: Any
    sender: str = msgspec.field(name="from")


class _AcceptedAnswer(msgspec.Struct, gc=False):
    id: str = ""
    status: str = "queued"
