"""Actors on whichever gateway: who are you, I am, hello; then messages one way and deliveries the other.

connected ──► whoareyou ──iam──► attaching ──hello──► identified ◄─── recovered (pid, offset)
    └──────────── auth {"actor"} ────┘
"""

from __future__ import annotations

import functools
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec

from smart_router.brokers.base import Entry
from smart_router.core.access import Identity, as_actor, forbidden
from smart_router.core.endpoints import Place
from smart_router.core.limits import Rate
from smart_router.core.registration import USUAL, Registration
from smart_router.core.sessions import Session
from smart_router.errors import Refused, RouterError
from smart_router.gateways.actor_data import Token
from smart_router.gateways.actor_marks import is_mark
from smart_router.gateways.base import CloseReason, Socket
from smart_router.message import ACTOR_ID, decode_envelope
from smart_router.protocols.socketio import take_attachments

if TYPE_CHECKING:
    from smart_router.gateways.actors import Actors

__all__ = ["OFFSET", "ActorSocket"]

_WAITING_EVENTS: Final = 64  # of one connection, behind a route that waits; then reading stops
_encode: Final = msgspec.json.Encoder().encode
_string: Final = msgspec.json.Decoder(str).decode

OFFSET: Final = re.compile(r"[0-9]{1,16}\Z", re.ASCII)
"""Of Socket.IO's connection state recovery: the number of a delivery."""

_MALFORMED: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_Event = tuple[str, Sequence[msgspec.Raw], tuple[bytes, ...], int | None]


class _State(Enum):
    UNKNOWN = "unknown"
    ATTACHING = "attaching"
    IDENTIFIED = "identified"
    CLOSED = "closed"


class ActorSocket:
    """One actor's connection: gateways.base.SocketHandler for the client, core.sessions.Link for the mailboxes."""

    __slots__ = (
        "_actors", "_busy", "_offset", "_own", "_paused", "_socket", "_state", "_waiting", "endpoint", "identity",
        "place", "recovering", "registration", "session", "wanted",
    )  # fmt: skip

    def __init__(self, actors: Actors, socket: Socket, place: Place, identity: Identity) -> None:
        self._actors = actors
        self._socket = socket
        self.place = place
        self.endpoint = place.endpoint
        self.identity = identity
        self.session: Session | None = None
        self.recovering: Session | None = None
        self.wanted: str | None = None
        self.registration: Registration = USUAL
        self._own = actors.events.names(place.endpoint)
        self._offset = 0
        self._state = _State.UNKNOWN
        self._busy = False
        self._paused = False
        self._waiting: deque[_Event] | None = None

    # from the gateway: the beginning

    def opened(self) -> None:
        if self.recovering is not None:
            self._state = _State.ATTACHING
            self._actors.run(self._recover(self.recovering))
        elif self.wanted is not None:
            self._answer(functools.partial(self._attach, self.wanted), None)
        else:
            self._socket.emit("whoareyou", b"{}")

    def claim(self, pid: str | None, offset: str | None) -> None:
        """Takes up an earlier session if `pid` names one that can be; else the socket gets a pid of its own."""
        recovery = self._actors.core.delivery.recovery
        session = recovery.find(pid) if pid is not None else None
        if session is not None and self._may_go_on(session):
            self.recovering = session
            self._offset = int(offset) if offset is not None and OFFSET.match(offset) else 0
            self._socket.id, self._socket.pid = session.id, session.pid
        else:
            recovery.missed += pid is not None
            self._socket.pid = secrets.token_urlsafe(18)

    def _may_go_on(self, session: Session) -> bool:
        """The `pid` is a secret, and not enough: who has it must be who the session was, and still be allowed to."""
        if session.place != self.place or self.wanted not in (None, session.actor):
            return False
        if not self._actors.core.authorizer.required:
            return True
        if session.identity.subject != self.identity.subject:
            return False
        rules = self._actors.core.rules.get(self.endpoint.name)
        return rules is None or rules.may_connect(self.identity, session.actor)

    async def _recover(self, session: Session) -> None:
        old, session.link = session.link, self
        if isinstance(old, ActorSocket) and old is not self:
            old.session = None
            old.cut()
        self._actors.core.feedback.replies.abandon(session)
        self.session = session
        self._permit(session, as_actor(self.identity, session.actor))
        try:
            await self._actors.core.delivery.recover(session, self._offset)
        except RouterError as error:
            self.session = None
            self._actors.core.delivery.detach(session)
            self._failed(error)
            return
        self._identified()

    def check_actor(self, raw: msgspec.Raw) -> str:
        """The id, if it has this namespace's form."""
        prefix = self._socket.namespace[1:] + "/"
        try:
            actor = _string(raw)
        except msgspec.DecodeError:
            actor = ""
        if not actor.startswith(prefix) or not ACTOR_ID.match(actor[len(prefix) :]):
            raise Refused(
                "bad_actor",
                f"An actor's id here is {prefix}NAME, NAME being 1 to 128 letters, digits and . _ ~ @ : + -",
            )
        return actor

    def check_access(self, actor: str) -> None:
        rules = self._actors.core.rules.get(self.endpoint.name)
        if rules is not None and not rules.may_connect(self.identity, actor):
            raise forbidden(f"be the actor {actor!r}")

    def _attach(self, actor: str) -> None:
        core = self._actors.core
        settings = self.endpoint.settings
        if core.revocations.is_revoked(self.identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")
        identity = as_actor(self.identity, actor)
        now = core.clock
        session = Session(self._socket.id, actor, self.place, self, identity, now.wall_ms())
        session.pid = self._socket.pid
        session.registration = self.registration
        interval = settings.heartbeat_interval
        session.beat_every = self._socket.ping_interval if interval is None else interval
        if settings.messages_per_second or settings.bytes_per_second:
            session.rate = Rate(settings.messages_per_second, settings.bytes_per_second, now)
        self._permit(session, identity)
        self.session = session
        self._state = _State.ATTACHING
        self._actors.run(self._attached(session))

    def _permit(self, session: Session, identity: Identity) -> None:
        core = self._actors.core
        session.identity = identity
        rules = core.rules.get(self.endpoint.name)
        session.publisher = rules.publisher(identity, session.actor) if rules is not None else None
        session.reader = rules.reader(identity, session.actor) if rules is not None else None
        if self._state is _State.IDENTIFIED:
            self._watch_token(session)

    def _watch_token(self, session: Session) -> None:
        """Not before hello: a client that is told of an expiry before it is greeted would take it for a refusal."""
        core = self._actors.core
        core.tokens.add(session, session.identity.expires_at)
        core.deadlines.watch(core.tokens)

    async def _attached(self, session: Session) -> None:
        try:
            await self._actors.core.delivery.attach(session)
        except RouterError as error:
            session.closed = True
            self.session = None
            self._failed(error)
            return
        self._identified()

    def _failed(self, error: RouterError) -> None:
        if self._state is not _State.CLOSED:
            self._state = _State.UNKNOWN
            self.fail(error)
            self._next()

    def _identified(self) -> None:
        if self._state is _State.ATTACHING:
            self._state = _State.IDENTIFIED
            if self.session is not None:
                self._watch_token(self.session)
            self._next()

    # from the gateway: events

    def event(self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        if self._busy or self._state is _State.ATTACHING:
            self._wait_turn((name, args, attachments, ack_id))
        else:
            self._handle(name, args, attachments, ack_id)

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        session = self.session
        if self._state is not _State.IDENTIFIED or self._busy or self._waiting or session is None or name in self._own:
            return False
        try:
            envelope = decode_envelope(raw)
        except _MALFORMED:
            return False
        self._heard(session)
        reply = None if ack_id is None else functools.partial(self._socket.acknowledge, ack_id)
        waits = self._actors.core.router.route(session, name, envelope, raw, (), reply)
        if waits is not None:
            self._busy = True
            self._actors.run(self._route_waits(waits))
        return True

    def _wait_turn(self, event: _Event) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(event)
        if len(self._waiting) >= _WAITING_EVENTS and not self._paused:
            self._paused = True
            self._socket.pause_reading()

    def _next(self) -> None:
        """Goes on with what waited behind a route or behind hello."""
        waiting = self._waiting
        while waiting and not self._busy and self._state not in (_State.ATTACHING, _State.CLOSED):
            self._handle(*waiting.popleft())
        if not waiting:
            self._waiting = None
            if self._paused:
                self._paused = False
                self._socket.resume_reading()

    def _handle(
        self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None
    ) -> None:
        session = self.session
        if name == "iam":
            self._answer(functools.partial(self._iam, args), ack_id)
        elif name == "refresh":
            self._answer(functools.partial(self._refresh, args), ack_id)
        elif session is None:
            self._who_are_you(name, args, ack_id)
        elif name in self._own or is_mark(name, args):
            self._heard(session)
            self._own_event(session, name, () if attachments else args, ack_id)
        else:
            self._heard(session)
            raw = bytes(args[0]) if args else b"null"
            if attachments:
                raw, taken = take_attachments(raw, attachments)
                attachments = tuple(taken)
            reply = functools.partial(self._socket.acknowledge, ack_id) if ack_id is not None else None
            waits = self._actors.core.router.handle(session, name, raw, attachments, reply)
            if waits is not None:
                self._busy = True
                self._actors.run(self._route_waits(waits))

    async def _route_waits(self, waits: Awaitable[None]) -> None:
        try:
            await waits
        finally:
            self._busy = False
            self._next()

    def _heard(self, session: Session) -> None:
        session.active_at = self._actors.now()
        if session.unwell:
            self._actors.core.delivery.heartbeats.heard(session)

    def _own_event(self, session: Session, name: str, args: Sequence[msgspec.Raw], ack_id: int | None) -> None:
        events = self._actors.events
        if events.is_question(name):
            self._busy = True
            told = None if ack_id is None else functools.partial(self._socket.acknowledge, ack_id)
            self._actors.run(self._route_waits(events.ask(session, name, args, told)))
        else:
            self._answer(functools.partial(events.tell, session, name, args), ack_id)

    def _answer(self, request: functools.partial[None], ack_id: int | None) -> None:
        """A request of the handshake: errors go to its acknowledgement, if it asked for one."""
        try:
            request()
        except RouterError as error:
            if ack_id is None:
                self.fail(error)
            else:
                self._socket.acknowledge(ack_id, _encode({"error": error.as_dict()}))
        else:
            if ack_id is not None:
                self._socket.acknowledge(ack_id, b"{}")

    def _who_are_you(self, name: str, args: Sequence[msgspec.Raw], ack_id: int | None) -> None:
        message = bytes(args[0]) if args else b"null"
        self._socket.emit("whoareyou", b'{"type":%b,"message":%b}' % (_encode(name), message))
        if ack_id is not None:
            error = Refused("not_identified", "Say who you are (`iam`) and send the message again.", type=name[:128])
            self._socket.acknowledge(ack_id, _encode({"error": error.as_dict()}))

    def _iam(self, args: Sequence[msgspec.Raw]) -> None:
        actor = self.check_actor(args[0] if args else msgspec.Raw(b"null"))
        if self.session is not None:
            if actor != self.session.actor:
                raise Refused(
                    "already_identified",
                    f"This connection is {self.session.actor!r}: open another one for another actor.",
                )
            self.hello(False)
            return
        self.check_access(actor)
        self._attach(actor)

    def _refresh(self, args: Sequence[msgspec.Raw]) -> None:
        core = self._actors.core
        try:
            token = msgspec.json.decode(args[0] if args else b"null", type=Token).token
        except msgspec.DecodeError:
            raise Refused("bad_message", '`refresh` takes {"token": text}.') from None
        identity = core.authorizer.authenticate(token, core.clock.wall_ms())
        if core.revocations.is_revoked(identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")
        if identity.subject != self.identity.subject:
            raise forbidden("go on as another subject: open another connection")
        before, self.identity = self.identity, identity
        if self.session is None:
            return
        try:
            self.check_access(self.session.actor)
        except Refused:
            self.identity = before
            raise
        self._permit(self.session, as_actor(identity, self.session.actor))

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        if self.session is not None:
            self._heard(self.session)
            self._actors.events.answered(self.session, ack_id, args, attachments, self._actors.run)

    def heartbeat(self) -> None:
        if self.session is not None:
            self._heard(self.session)

    def mark(self) -> int:
        return self._actors.core.delivery.mark(self.session) if self.session is not None else 0

    def confirm(self, mark: int) -> None:
        if self.session is not None:
            self._actors.core.delivery.confirm(self.session, mark)

    def writable(self, ok: bool) -> None:
        if self.session is not None:
            self._actors.core.delivery.stalled(self.session, not ok)

    def closed(self, by_client: bool) -> None:
        self._state = _State.CLOSED
        session, self.session = self.session, None
        if session is not None:
            core = self._actors.core
            core.tokens.discard(session)
            core.feedback.replies.abandon(session)
            core.delivery.detach(session, resumable=not by_client)

    # core.sessions.Link

    def deliver(self, entry: Entry, ack_id: int | None, offset: str | None) -> None:
        message = entry.message
        body = b'{"redelivered":true,' + message.body[1:] if entry.redelivered else message.body
        self._socket.deliver(message.type, body, message.attachments, ack_id, offset)

    def hello(self, recovered: bool) -> None:
        self._socket.hello(self.endpoint.settings.ack, recovered)

    def fail(self, error: RouterError) -> None:
        self._socket.emit("error", _encode(error.as_dict()))

    def barrier(self) -> None:
        self._socket.barrier()

    def cut(self) -> None:
        self._socket.close(CloseReason.TAKEN_OVER)

    def end(self, error: RouterError) -> None:
        self.fail(error)
        self._socket.close(CloseReason.EXPIRED if error.code == "token_expired" else CloseReason.REVOKED)
