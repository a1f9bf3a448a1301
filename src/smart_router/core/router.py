"""The way of a message in: from a session's event to the mailboxes. Then read delivery.py and brokers/base.py.

session ─ (type, message, attachments, reply) ─► handle
    decode   the envelope, once; the payload stays bytes
    limits   size, rate
    dedup    a repeat gets the first one's answer
    route    (endpoint, type) → action; unknown: error to the sender
    run      the action: publishes to any number of addresses
    access   may this sender publish there?
    put      into the mailboxes; the sender's acknowledgement when it is safe in all of them
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import structlog

from smart_router.brokers.base import Broker, End, Entry, PutDone, PutResult
from smart_router.core.access import Permissions, forbidden
from smart_router.core.actions import Context, rest_of
from smart_router.core.endpoints import Endpoints
from smart_router.core.events import EventHandler
from smart_router.core.limits import NewMailboxes
from smart_router.core.options import check_options
from smart_router.core.reports import Reports
from smart_router.core.router_api import RouterApi
from smart_router.core.routes import Route, Routes
from smart_router.core.sessions import Session
from smart_router.errors import Refused, RouterError
from smart_router.ids import Ids
from smart_router.message import NO_OPTIONS, Envelope, Message, Options, decode_envelope, wants_of

if TYPE_CHECKING:
    from smart_router.core.receipts import Receipts
    from smart_router.core.replies import Replies

__all__ = ["Reply", "Router", "RouterStatistics"]

Reply = Callable[[bytes], None]
"""The sender's acknowledgement: takes one JSON object."""

_encode: Final = msgspec.json.Encoder().encode
_BRACE: Final = 0x7B
_log = structlog.get_logger("smart_router.router")


class RouterStatistics(NamedTuple):
    received: int
    published: int
    refused: int
    repeats: int
    route_errors: int
    no_route: int


class Router(RouterApi):
    """Routes what sessions send. All of it is synchronous unless an action awaits something."""

    def __init__(
        self,
        endpoints: Endpoints,
        routes: Routes,
        broker: Broker,
        reports: Reports,
        new_mailboxes: NewMailboxes,
        ids: Ids,
    ) -> None:
        self.endpoints = endpoints
        self.routes = routes
        self._broker = broker
        self._ends, self._events, self._health = reports
        self._new_mailboxes = new_mailboxes
        self.ids = ids
        self._repeats: dict[tuple[str, str], list[tuple[Session, Reply | None]]] = {}
        self._routes = {endpoint.name: routes.of(endpoint.name) for endpoint in endpoints}
        self._tasks: set[asyncio.Future[None]] = set()
        self._received = self._published = self._refused = self._repeated = 0
        self._route_errors = self._no_route = 0
        self.draining = False
        self.receipts: Receipts
        self.replies: Replies

    def on(self, name: str, handler: EventHandler) -> None:
        """Calls `handler` with each event of that name (specs: mailbox routing, Events)."""
        self._events.on(name, handler)

    def handle(
        self, session: Session, type_: str, raw: bytes, attachments: tuple[bytes, ...], reply: Reply | None
    ) -> Awaitable[None] | None:
        """Routes one message. None: done; else await it before the session's next message.

        `raw`: the message as one JSON object. Errors go to `reply` as `{"error": …}`, else to the session's link.
        """
        try:
            envelope = self._decode(raw)
        except Refused as error:
            self._received += 1
            self._refuse(session, error, type_, reply)
            return None
        return self.route(session, type_, envelope, raw, attachments, reply)

    def route(
        self,
        session: Session,
        type_: str,
        envelope: Envelope,
        raw: bytes,
        attachments: tuple[bytes, ...],
        reply: Reply | None,
    ) -> Awaitable[None] | None:
        """As `handle`, of a message that is decoded already."""
        self._received += 1
        try:
            self._limits(session, envelope, raw, attachments)
            if envelope.options is not NO_OPTIONS and self._is_answered(session, envelope.options, reply):
                return None
            route = self._route(session, type_)
            context = self._context(session, type_, envelope, raw, attachments)
        except RouterError as error:
            self._refuse(session, error, type_, reply)
            return None
        return self._run(route, context, reply)

    def publish(self, sender: str, entries: list[Entry], done: PutDone) -> None:
        """Puts what no session sends at this moment: a dead letter again. Raises Refused: then nothing is put."""
        if self.draining:
            raise Refused("shutting_down", "This node is going down: ask another one.")
        self.open_mailboxes(sender, [entry.address for entry in entries])
        self._tell_queued(entries)
        self._broker.put(entries, done)

    def open_mailboxes(self, sender: str, addresses: Iterable[str]) -> None:
        """Those that are not there yet count against the endpoint's and the sender's limit. Raises Refused."""
        new = {address for address in addresses if not self._broker.exists(address)}
        if new:
            self._new_mailboxes.open(sender, [self.endpoints.target(address).endpoint for address in new])

    # the steps

    def _decode(self, raw: bytes) -> Envelope:
        try:
            return decode_envelope(raw)
        except msgspec.ValidationError as error:
            raise Refused("bad_message", _explain(error)) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Refused("bad_message", "The message is not valid JSON.") from None

    def _limits(self, session: Session, envelope: Envelope, raw: bytes, attachments: tuple[bytes, ...]) -> None:
        size = len(raw)
        if attachments:
            size += sum(map(len, attachments))
        limit = session.endpoint.max_message_size
        if size > limit:
            text = f"The message has {size} bytes, the limit is {limit}: send several smaller ones."
            raise Refused("too_large", text, limit=limit)
        if envelope.options is not NO_OPTIONS:
            check_options(envelope.options, self._broker.capabilities)
        if session.rate is not None:
            session.rate.take(size)
        if self.draining:
            raise Refused("shutting_down", "This node is going down: connect again and send the message there.")

    def _is_answered(self, session: Session, options: Options, reply: Reply | None) -> bool:
        """True: it repeats an earlier one, there is nothing to route."""
        if options.reply is not None:
            self.replies.check(session, reply)
            if reply is not None:
                reply = functools.partial(self.replies.again, session, options.reply, reply)
        return options.id is not None and self._is_repeat(session, options.id, reply)

    def _is_repeat(self, session: Session, key: str, reply: Reply | None) -> bool:
        """True: this is a repeat, it has its answer or will get it with the first one's."""
        waiting = self._repeats.get((session.actor, key))
        if waiting is not None:
            if len(waiting) >= 64:
                raise Refused("busy", "Too many repeats of one message wait for its answer: wait for it.")
            waiting.append((session, reply))
            self._repeated += 1
            return True
        answer = self._broker.recall(session.actor, key)
        if answer is None:
            return False
        self._repeated += 1
        if isinstance(answer, bytes):
            if reply is not None:
                reply(answer)
        else:
            self._repeats[session.actor, key] = [(session, reply)]
            self._tasks.add(task := asyncio.ensure_future(self._await_first(session.actor, key, answer)))
            task.add_done_callback(self._tasks.discard)
        return True

    async def _await_first(self, actor: str, key: str, answer: Awaitable[bytes]) -> None:
        try:
            self._answer_repeats((actor, key), await answer)
        except RouterError as error:
            self._answer_repeats((actor, key), _encode({"error": error.as_dict()}))

    def _route(self, session: Session, type_: str) -> Route:
        route = self._routes[session.endpoint.name].get(type_)
        if route is None:
            self._no_route += 1
            return self.routes.find(session.endpoint.name, type_)
        return route

    def _context(
        self, session: Session, type_: str, envelope: Envelope, raw: bytes, attachments: tuple[bytes, ...]
    ) -> Context:
        plain = raw[0] == _BRACE and not envelope.forged  # white space may stand before the object
        context = Context(self, session, type_, envelope, raw[1:] if plain else rest_of(raw))
        context.attachments = attachments
        if envelope.options.id is not None:
            self._repeats[session.actor, envelope.options.id] = []
        return context

    def _run(self, route: Route, context: Context, reply: Reply | None) -> Awaitable[None] | None:
        try:
            outcome = route.action(context)
            if route.waits or (outcome is not None and not route.is_async and inspect.isawaitable(outcome)):
                return self._run_waiting(cast("Awaitable[None]", outcome), context, reply)
            if route.is_async:
                _drive(outcome)
        except Exception as error:  # noqa: BLE001 (the program's own code may raise anything)
            self._action_failed(context, error, reply)
            return None
        self._put(context, reply)
        return None

    async def _run_waiting(self, outcome: Awaitable[None], context: Context, reply: Reply | None) -> None:
        try:
            await outcome
        except asyncio.CancelledError:
            self._action_failed(context, RuntimeError("the node went down"), reply)
            raise
        except Exception as error:  # noqa: BLE001 (the program's own code may raise anything)
            self._action_failed(context, error, reply)
            return
        self._put(context, reply)

    def _put(self, context: Context, reply: Reply | None) -> None:
        session, entries = context.session, context.entries
        try:
            if session.publisher is not None:
                self._access(session.publisher, entries)
            self._open_mailboxes(session, entries)
        except RouterError as error:
            self._answer_first(context, _encode({"error": error.as_dict()}))
            self._refuse(session, error, context.type, reply)
            return
        self._tell_queued(entries)
        options = context.envelope.options
        key = options.id
        if reply is None and (options is NO_OPTIONS or _untold(options)):
            if entries:
                self._broker.put(entries)
            return
        if options.receipt is not None:
            self.receipts.sent(entries)
        if options.reply is not None and reply is not None:
            if not entries:
                self._no_recipient(context, reply)
                return
            request = self.replies.ask(session, options.reply, reply, context.id, len(entries))
            reply = functools.partial(self.replies.put, request)
        answer = b'{"id":"%b","status":"queued"}' % context.id.encode()
        if not entries:
            self._done(context, answer, reply, PutResult({}))
            return
        done = functools.partial(self._done, context, answer, reply)
        self._broker.put(entries, done, (session.actor, key, answer) if key is not None else None)

    def _tell_queued(self, entries: list[Entry]) -> None:
        self._published += len(entries)
        if self._events.wanted("message.queued"):
            for entry in entries:
                self._events.emit("message.queued", message_id=entry.message.id, actor_id=entry.address)

    def _no_recipient(self, context: Context, reply: Reply) -> None:
        text = "The route for this message sent it to nobody, so nobody can reply."
        error = Refused("no_recipient", text, id=context.id)
        self._answer_first(context, _encode({"error": error.as_dict()}))
        self._refuse(context.session, error, context.type, reply)

    def _access(self, publisher: Permissions, entries: list[Entry]) -> None:
        for entry in entries:
            if not publisher.may(entry.address, entry.message.type):
                raise forbidden(f"publish {entry.message.type!r} to {entry.address!r}", address=entry.address)

    def _open_mailboxes(self, session: Session, entries: list[Entry]) -> None:
        exists = self._broker.exists
        for entry in entries:
            if not exists(entry.address):
                self.open_mailboxes(session.actor, [each.address for each in entries])
                return

    # answers

    def _done(self, context: Context, answer: bytes, reply: Reply | None, result: PutResult) -> None:
        """The broker has it, or refuses it."""
        if result.answer is not None:
            answer = result.answer
        elif result.refused:
            addresses = [address for address in result.refused if address]  # "" stands for the dedup key's row
            error = next(iter(result.refused.values()))
            self._refused += 1
            answer = _encode({"id": context.id, "error": error.as_dict(), "refused": addresses})
            if reply is None:
                error.details.setdefault("id", context.id)
                context.session.link.fail(error)
        if context.envelope.options.receipt is not None:
            self.receipts.put(context.entries, result)
        self._answer_first(context, answer)
        if reply is not None:
            reply(answer)

    def _answer_first(self, context: Context, answer: bytes) -> None:
        key = context.envelope.options.id
        if key is not None:
            self._answer_repeats((context.session.actor, key), answer)

    def _answer_repeats(self, key: tuple[str, str], answer: bytes) -> None:
        for _, reply in self._repeats.pop(key, ()):
            if reply is not None:
                reply(answer)

    def _refuse(self, session: Session, error: RouterError, type_: str, reply: Reply | None) -> None:
        self._refused += 1
        error.details.setdefault("type", type_[:128])
        if reply is not None:
            reply(_encode({"error": error.as_dict()}))
        else:
            session.link.fail(error)
        if self._events.wanted("message.routing_error"):
            self._events.emit("message.routing_error", actor_id=session.actor, session_id=session.id, code=error.code)

    def _action_failed(self, context: Context, error: Exception, reply: Reply | None) -> None:
        """Refused by a publish: told. Anything else: logged, told, and the message is dead-lettered, not lost."""
        session = context.session
        if isinstance(error, Refused):
            self._no_route += error.code == "no_route"
            error.details.setdefault("id", context.id)
            self._answer_first(context, _encode({"error": error.as_dict()}))
            self._refuse(session, error, context.type, reply)
            return
        self._route_errors += 1
        _log.error(
            "route_raised", message_id=context.id, type=context.type, endpoint=session.endpoint.name, exc_info=error
        )
        self._health.error(
            f"The route for {context.type!r} on {session.endpoint.name!r} raised {type(error).__name__}."
        )
        body = b'{"id":"' + context.id.encode() + session.from_part + context.at_json + context.rest
        kept = Message(context.id, session.actor, context.at, context.type, body, context.attachments)
        kept.key, kept.wants = context.envelope.options.id, wants_of(context.envelope.options)
        self._ends.route_failed(kept, session.place.address, type(error).__name__)
        if kept.wants:
            self.receipts.ended(kept, session.place.address, End.FAILED, "route_error")
        told = Refused(
            "route_error",
            "The route for this message failed; the message is kept as a dead letter. Tell its operator the id.",
            id=context.id,
        )
        self._answer_first(context, _encode({"error": told.as_dict()}))
        self._refuse(session, told, context.type, reply)

    def statistics(self) -> RouterStatistics:
        return RouterStatistics(
            self._received, self._published, self._refused, self._repeated, self._route_errors, self._no_route
        )


def _drive(outcome: Any) -> None:
    """Runs a coroutine that has no `await` in it: it ends at its first step."""
    try:
        outcome.send(None)
    except StopIteration:
        return
    outcome.close()
    raise RuntimeError("a coroutine without an await has suspended")


def _untold(options: Options) -> bool:
    """Nobody waits to hear that the message is safe."""
    return options.id is None and options.receipt is None


def _explain(error: msgspec.ValidationError) -> str:
    """What is wrong with the envelope, never its content."""
    text = str(error)
    if "`ids`" in text or "$.ids" in text:
        return 'A message is an object with `ids`, an object: {"ids": {"agent": "agent/456/alice"}, "payload": …}.'
    if "$.options" in text:
        return f"`options` cannot be used: {text}."
    return 'A message is one object: {"ids": {…}, "metadata": {…}, "payload": …}.'
