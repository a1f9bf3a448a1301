"""Engine.IO 4 requests: which are let in, and how the others are answered."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

import msgspec

__all__ = ["EngineOptions", "HandshakeError", "Transport", "check_request", "open_packet", "parse_query"]

_MAX_FIELDS: Final = 64


class Transport(Enum):
    """How a session's packets travel."""

    POLLING = "polling"
    WEBSOCKET = "websocket"


class HandshakeError(Enum):
    """The six refusals; a WebSocket request that gets one ends without an upgrade."""

    UNKNOWN_TRANSPORT = 0, "Transport unknown"
    UNKNOWN_SID = 1, "Session ID unknown"
    BAD_HANDSHAKE_METHOD = 2, "Bad handshake method"
    BAD_REQUEST = 3, "Bad request"
    FORBIDDEN = 4, "Forbidden"
    UNSUPPORTED_PROTOCOL_VERSION = 5, "Unsupported protocol version"

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return 403 if self is HandshakeError.FORBIDDEN else 400

    @property
    def body(self) -> bytes:
        """The JSON body of the answer."""
        return msgspec.json.encode({"code": self.value[0], "message": self.value[1]})


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force for a session; times in seconds, sizes in bytes. The first three are told in the handshake."""

    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    max_payload: int = 131_072  # one message, one POST body, one polling answer
    upgrade_timeout: float = 10.0  # from the probe's connection to its `5`
    max_packets_in: int = 1024  # per POST
    max_packets_out: int = 16  # per polling answer: python-engineio refuses more
    max_backlog: int = 4_194_304  # waiting for a poll; beyond it the session ends


class _Open(msgspec.Struct, rename="camel"):
    sid: str
    upgrades: list[str]
    ping_interval: int
    ping_timeout: int
    max_payload: int


def open_packet(sid: str, transport: Transport, options: EngineOptions) -> bytes:
    """The first packet of a session, `0{…}`; times in milliseconds."""
    return b"0" + msgspec.json.encode(
        _Open(
            sid,
            ["websocket"] if transport is Transport.POLLING else [],
            round(options.ping_interval * 1000),
            round(options.ping_timeout * 1000),
            options.max_payload,
        )
    )


def parse_query(query: bytes) -> dict[str, str]:
    """The fields of a query string; of a repeated one the last. One that cannot be read has no fields."""
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        return {}


def check_request(
    method: str, query: Mapping[str, str], *, websocket: bool, current: Transport | None
) -> HandshakeError | None:
    """The refusal that a request earns, or None.

    `websocket`: it asks for an upgrade. `current`: the transport of the session that its `sid` names, None if there is
    none (any more). With a `sid` a WebSocket may be the start of a transport upgrade: `EngineSession.begin_upgrade`
    decides then.
    """
    try:
        transport = Transport(query.get("transport"))
    except ValueError:
        return HandshakeError.UNKNOWN_TRANSPORT
    if websocket and transport is not Transport.WEBSOCKET:
        return HandshakeError.BAD_REQUEST
    if query.get("sid"):
        return _check_session(method, transport, current, websocket=websocket)
    if method != "GET":
        return HandshakeError.BAD_HANDSHAKE_METHOD
    if query.get("EIO") != "4":
        return HandshakeError.UNSUPPORTED_PROTOCOL_VERSION
    if transport is Transport.WEBSOCKET and not websocket:
        return HandshakeError.BAD_REQUEST
    return None


def _check_session(
    method: str, transport: Transport, current: Transport | None, *, websocket: bool
) -> HandshakeError | None:
    if current is None:
        return HandshakeError.UNKNOWN_SID
    if websocket:
        return None if current is Transport.POLLING else HandshakeError.BAD_REQUEST
    if transport is not current or current is not Transport.POLLING or method not in ("GET", "POST"):
        return HandshakeError.BAD_REQUEST
    return None
