"""The application that gateways serve on core: each namespace is an endpoint, each socket an actor's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

import msgspec

from smart_router.core.access import Identity
from smart_router.core.services import Core
from smart_router.errors import Refused
from smart_router.gateways.actor_data import Auth
from smart_router.gateways.actor_events import ActorEvents
from smart_router.gateways.actor_socket import OFFSET, ActorSocket
from smart_router.gateways.base import Socket, SocketHandler
from smart_router.gateways.registrar import Registrar
from smart_router.protocols.socketio import ConnectData

__all__ = ["Actors"]

_string: Final = msgspec.json.Decoder(str).decode


class Actors:
    """gateways.base.Application on core. The namespace `/` registers sub-endpoints, the others are endpoints'."""

    def __init__(self, core: Core, registrar: Registrar) -> None:
        self.core = core
        self.events = ActorEvents(core)
        self.now = core.clock.monotonic
        self._registrar = registrar
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self, socket: Socket, auth: ConnectData) -> Awaitable[None] | None:
        """A session that another node has, and that this client may go on with, comes here first."""
        moving = self.core.installation.moving
        place = self.core.endpoints.place(socket.namespace)
        if auth.pid is None or place is None or not place.endpoint.settings.recovery or not moving.must_ask(auth.pid):
            return None
        offset = int(auth.offset) if auth.offset is not None and OFFSET.match(auth.offset) else 0
        return moving.fetch(auth.pid, offset, place, self.authenticate(socket, auth.auth))

    def connect(self, socket: Socket, auth: ConnectData) -> SocketHandler:
        identity = self.authenticate(socket, auth.auth)
        if socket.namespace == "/":
            return self._registrar.connect(socket, identity)
        place = self.core.endpoints.place(socket.namespace)
        if place is None:
            raise Refused("unknown_address", "Invalid namespace")
        handler = ActorSocket(self, socket, place, identity)
        handler.wanted = self._wanted_actor(auth.auth, handler)
        handler.registration = msgspec.json.decode(auth.auth, type=Auth).registration()
        if place.endpoint.settings.recovery:
            handler.claim(auth.pid, auth.offset)
        return handler

    def authenticate(self, socket: Socket, auth: bytes) -> Identity:
        token = self._token(socket, auth)
        identity = self.core.authorizer.authenticate(token, self.core.clock.wall_ms())
        if self.core.revocations.is_revoked(identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")
        return identity

    @staticmethod
    def _token(socket: Socket, auth: bytes) -> str | None:
        try:
            raw = msgspec.json.decode(auth, type=Auth).token
            if bytes(raw) != b"null":
                return _string(raw)
        except msgspec.DecodeError:
            raise Refused("bad_message", '`auth` is an object: {"actor": id, "token": text}.') from None
        header = socket.authorization or b""
        scheme, _, credentials = header.partition(b" ")
        return credentials.strip().decode("latin-1") if scheme.lower() == b"bearer" else None

    def _wanted_actor(self, auth: bytes, handler: ActorSocket) -> str | None:
        raw = msgspec.json.decode(auth, type=Auth).actor
        if bytes(raw) == b"null":
            return None
        actor = handler.check_actor(raw)
        handler.check_access(actor)
        return actor

    def run(self, awaitable: Awaitable[None]) -> None:
        """In a task of ours, which ends with the connection's own errors told to its client."""
        task = asyncio.ensure_future(_wait(awaitable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def waiting(self) -> int:
        """Routes and identifications under way."""
        return len(self._tasks)

    async def cut(self) -> None:
        """Ends the routes that still wait; their messages become dead letters."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """All routes that wait have ended."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


async def _wait(awaitable: Awaitable[None]) -> None:
    await awaitable
