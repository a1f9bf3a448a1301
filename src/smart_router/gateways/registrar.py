"""The root namespace: adding sub-endpoints at run time (specs: actor routing, Dynamic sub-endpoints)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from smart_router.clock import Clock
from smart_router.core.access import Identity, require_admin
from smart_router.core.health import Health
from smart_router.core.revocations import Revocations
from smart_router.core.subendpoints import SubEndpoints
from smart_router.errors import Refused, RouterError
from smart_router.gateways.base import Socket

__all__ = ["Registrar"]


class _Registration(msgspec.Struct):
    name: Any = None
    id: Any = None


class Registrar:
    """Registers sub-endpoints for whoever may."""

    def __init__(self, subs: SubEndpoints, revocations: Revocations, health: Health, clock: Clock) -> None:
        self._subs = subs
        self._revocations = revocations
        self._health = health
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, identity: Identity) -> None:
        """Refused: not an administrator, or not any more."""
        require_admin(identity, "Registering a sub-endpoint")
        expires = identity.expires_at
        if expires is not None and expires <= self._clock.wall_ms():
            raise Refused("token_expired", "The token has expired: connect again with a new one.")
        if self._revocations.is_revoked(identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")

    def connect(self, socket: Socket, identity: Identity) -> _RootSocket:
        return _RootSocket(self, socket, identity)

    def run(self, socket: Socket, request: _Registration, ack_id: int | None) -> None:
        task = asyncio.ensure_future(self._answer(socket, request, ack_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, socket: Socket, request: _Registration, ack_id: int | None) -> None:
        """The reply event of the spec, and the acknowledgement if one was asked for."""
        try:
            new = await self._subs.register(request.name, request.id)
        except RouterError as error:
            self._health.error(error.message)
            socket.emit("endpointRegistrationError", msgspec.json.encode({"message": error.message}))
            answer = msgspec.json.encode({"error": error.as_dict()})
        else:
            answer = b"{}" if new else self._known(request)
            socket.emit("endpointRegistered", answer)
        if ack_id is not None:
            socket.acknowledge(ack_id, answer)

    def _known(self, request: _Registration) -> bytes:
        text = f"Endpoint [/{request.name}/{request.id}] already exists. Aborted."
        self._health.warning(text)
        return msgspec.json.encode({"message": text})


class _RootSocket:
    """gateways.base.SocketHandler of `/`: no actor, no mailbox, one event."""

    __slots__ = ("_identity", "_registrar", "_socket")

    def __init__(self, registrar: Registrar, socket: Socket, identity: Identity) -> None:
        self._registrar = registrar
        self._socket = socket
        self._identity = identity

    def opened(self) -> None:
        return

    def event(self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        try:
            if name != "registerNewEndpointId":
                raise Refused(
                    "unknown_event", "The root namespace knows `registerNewEndpointId` only: connect to an endpoint's."
                )
            self._registrar.check(self._identity)
            try:
                request = msgspec.json.decode(args[0] if args else b"null", type=_Registration)
            except msgspec.DecodeError:
                raise Refused("bad_message", '`registerNewEndpointId` takes {"name": endpoint, "id": id}.') from None
        except Refused as error:
            if ack_id is None:
                self._socket.emit("error", msgspec.json.encode(error.as_dict()))
            else:
                self._socket.acknowledge(ack_id, msgspec.json.encode({"error": error.as_dict()}))
            return
        self._registrar.run(self._socket, request, ack_id)

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        return False

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        return

    def heartbeat(self) -> None:
        return

    def mark(self) -> int:
        return 0

    def confirm(self, mark: int) -> None:
        return

    def writable(self, ok: bool) -> None:
        return

    def closed(self, by_client: bool) -> None:
        return
