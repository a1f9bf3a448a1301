"""The conformance app: what public Engine.IO and Socket.IO suites expect of a server, on Smart Router's gateways alone.

Socket.IO, namespaces `/` and `/custom`: `auth` on connection; `message` comes back as `message-back`;
`message-with-ack` is acknowledged with what it carried. Engine.IO and WebSocket: every message comes back.

With the environment variable CONFORMANCE_TOKEN set, CONNECT needs `{"token": …}` of that value.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence

import msgspec

from smart_router.errors import Refused
from smart_router.gateways.bare import BareSocket
from smart_router.gateways.base import BinarySocket
from smart_router.gateways.request import HttpRequest
from smart_router.protocols.socketio import ConnectData, take_attachments

__all__ = ["Conformance", "Echo", "application", "echo"]

NAMESPACES = ("/", "/custom")


class Conformance:
    """gateways.base.BinaryApplication."""

    def __init__(self, token: str | None = None) -> None:
        self._token = token

    def prepare(self, socket: BinarySocket, auth: ConnectData) -> None:
        return

    def connect(self, socket: BinarySocket, auth: ConnectData) -> Client:
        if socket.namespace not in NAMESPACES:
            raise Refused("unknown_address", "Invalid namespace")
        if self._token is not None and not _shows(self._token, auth.auth):
            raise Refused("unauthorized", "The connection payload needs the `token`.")
        return Client(socket, auth.auth)


class _Payload(msgspec.Struct):
    token: object = None


def _shows(token: str, payload: bytes) -> bool:
    shown = msgspec.json.decode(payload, type=_Payload).token
    return isinstance(shown, str) and hmac.compare_digest(shown.encode(), token.encode())


class Client:
    """One socket of one client: gateways.base.SocketHandler."""

    __slots__ = ("_payload", "_socket")

    def __init__(self, socket: BinarySocket, payload: bytes) -> None:
        self._socket = socket
        self._payload = payload

    def opened(self) -> None:
        self._socket.emit("auth", self._payload)
        self._payload = b""

    def event(self, name: str, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...], ack_id: int | None) -> None:
        arguments = b",".join(map(bytes, args))
        if attachments:
            arguments, frames = take_attachments(arguments, attachments)
            attachments = tuple(frames)
        if name == "message":
            self._socket.emit("message-back", arguments, attachments)
        elif name == "message-with-ack" and ack_id is not None:
            self._socket.acknowledge(ack_id, arguments, attachments)

    def message(self, name: str, raw: bytes, ack_id: int | None) -> bool:
        return False  # `event` brings it parsed

    def acknowledgement(self, ack_id: int, args: Sequence[msgspec.Raw], attachments: tuple[bytes, ...]) -> None:
        """Nothing here asks for one."""

    def heartbeat(self) -> None:
        """Whoever does not answer pings is disconnected by the gateway."""

    def mark(self) -> int:
        return 0  # nothing needs to be confirmed, so there are no pings but the heartbeat

    def confirm(self, mark: int) -> None:
        """Nothing waits for it."""

    def writable(self, ok: bool) -> None:
        """A client that does not read its answers is not read either."""
        if ok:
            self._socket.resume_reading()
        else:
            self._socket.pause_reading()

    def closed(self, by_client: bool) -> None:
        """Nothing to keep."""


class Echo:
    """gateways.bare.BareApplication: every message goes back."""

    def connect(self, socket: BareSocket, request: HttpRequest) -> Echoing:
        return Echoing(socket)


class Echoing:
    """One connection: gateways.bare.BareHandler."""

    __slots__ = ("binary", "text")

    def __init__(self, socket: BareSocket) -> None:
        self.text = socket.send_text
        self.binary = socket.send_binary

    def closed(self) -> None:
        """Nothing to keep."""


application = Conformance(os.environ.get("CONFORMANCE_TOKEN"))
echo = Echo()
