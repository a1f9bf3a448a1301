"""Socket.IO 5, server side, without I/O or a clock: the namespaces of one connection over one Engine.IO session.

    unknown ──CONNECT──► connecting ──accept──► open ──DISCONNECT, leave──► left ──CONNECT──► connecting
                            │ refuse
    unknown ◄───────────────┘

An event for a namespace that was never open ends the connection; for one that was left it is dropped, since both sides
may leave while packets are under way. A fault of the peer raises ProtocolError: the caller ends the connection and
calls nothing here again.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from smart_router.errors import ProtocolError
from smart_router.protocols.socketio_binary import BinaryAssembler, take_attachments
from smart_router.protocols.socketio_data import (
    ConnectData,
    decode_acknowledgement,
    decode_connect,
    decode_event,
)
from smart_router.protocols.socketio_packet import (
    ACK,
    BINARY_ACK,
    BINARY_EVENT,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    LIMITS,
    Limits,
    Packet,
    acknowledgement_prefix,
    decode_packet,
    encode_acknowledgement,
    encode_connect,
    encode_connect_error,
    encode_disconnect,
    encode_event,
    encode_packet,
    event_prefix,
)

__all__ = [
    "ACK",
    "BINARY_ACK",
    "BINARY_EVENT",
    "CONNECT",
    "CONNECT_ERROR",
    "DISCONNECT",
    "EVENT",
    "BinaryAssembler",
    "ConnectData",
    "Limits",
    "Packet",
    "SocketConnection",
    "SocketStatistics",
    "acknowledgement_prefix",
    "decode_acknowledgement",
    "decode_connect",
    "decode_event",
    "decode_packet",
    "encode_acknowledgement",
    "encode_connect",
    "encode_connect_error",
    "encode_disconnect",
    "encode_event",
    "encode_packet",
    "event_prefix",
    "take_attachments",
]


class _State(Enum):
    CONNECTING = 1
    OPEN = 2
    LEFT = 3


_OPEN: Final = _State.OPEN  # a global costs less than an attribute of the class on the way of every event


class SocketStatistics(NamedTuple):
    """One connection, as of now."""

    open_namespaces: int
    dropped_packets: int


class SocketConnection:
    """What one client has joined, and the packet it is in the middle of."""

    __slots__ = ("_assembler", "_attachments_by", "_connect_by", "_dropped", "_limits", "_namespaces")

    def __init__(self, now: float, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._namespaces: dict[str, _State] = {}
        self._connect_by: float | None = now + limits.connect_timeout
        self._assembler: BinaryAssembler | None = None
        self._attachments_by = 0.0
        self._dropped = 0

    def receive_text(self, frame: bytes, now: float) -> Packet | None:
        """Take one Engine.IO text message, its `4` included; the packet to act on, if there is one.

        CONNECT: answer with `accept` or `refuse`, now or later. EVENT, ACK and their binary forms: decode the data,
        then use it. DISCONNECT: the namespace is left already.
        """
        if self._assembler is not None:
            raise ProtocolError("text in the middle of a binary packet")
        packet = decode_packet(frame, self._limits)
        kind = packet.type
        if kind in (EVENT, ACK) and self._namespaces.get(packet.namespace) is _OPEN:
            return packet
        if kind == CONNECT:
            return self._connect(packet)
        if kind == DISCONNECT:
            return self._disconnect(packet)
        if kind == CONNECT_ERROR:
            raise ProtocolError("only a server refuses a connection")
        return self._data(packet, now)

    def receive_binary(self, frame: bytes) -> Packet | None:
        """Take one Engine.IO binary message, an attachment; the packet that it completes."""
        if self._assembler is None:
            raise ProtocolError("binary message that no packet announced")
        packet = self._assembler.add(frame)
        if packet is None:
            return None
        self._assembler = None
        return self._if_open(packet)

    def accept(self, namespace: str, sid: str, pid: str | None = None) -> bytes | None:
        """Open a namespace that is connecting: the answer to send. None: the client has left it meanwhile."""
        if self._namespaces.get(namespace) is not _State.CONNECTING:
            return None
        self._namespaces[namespace] = _OPEN
        self._connect_by = None
        return encode_connect(namespace, sid, pid)

    def refuse(self, namespace: str, message: str, data: bytes | None = None) -> bytes | None:
        """Refuse a namespace that is connecting; as `accept`."""
        if self._namespaces.get(namespace) is not _State.CONNECTING:
            return None
        del self._namespaces[namespace]
        return encode_connect_error(namespace, message, data)

    def leave(self, namespace: str) -> bytes | None:
        """End an open namespace from our side: the packet to send. None: it is not open."""
        if self._namespaces.get(namespace) is not _OPEN:
            return None
        self._namespaces[namespace] = _State.LEFT
        return encode_disconnect(namespace)

    def is_open(self, namespace: str) -> bool:
        return self._namespaces.get(namespace) is _OPEN

    @property
    def open_namespaces(self) -> list[str]:
        """In the order in which they were first joined."""
        return [namespace for namespace, state in self._namespaces.items() if state is _OPEN]

    @property
    def has_too_many(self) -> bool:
        """The namespace that is connecting is one over the limit: refuse it. One that was left still counts."""
        return len(self._namespaces) > self._limits.namespaces

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`; look again after every call that may have changed it."""
        if self._assembler is None:
            return self._connect_by
        return self._attachments_by if self._connect_by is None else min(self._connect_by, self._attachments_by)

    def handle_timer(self, now: float) -> None:
        """ProtocolError once a deadline has passed: no namespace joined, or attachments outstanding for too long."""
        if self._connect_by is not None and now >= self._connect_by:
            raise ProtocolError("no namespace joined in time", close_code=1008)
        if self._assembler is not None and now >= self._attachments_by:
            raise ProtocolError("attachments did not come in time", close_code=1008)

    def statistics(self) -> SocketStatistics:
        return SocketStatistics(len(self.open_namespaces), self._dropped)

    def _connect(self, packet: Packet) -> Packet:
        if self._namespaces.get(packet.namespace, _State.LEFT) is not _State.LEFT:
            raise ProtocolError("namespace is joined already")
        self._namespaces[packet.namespace] = _State.CONNECTING
        return packet

    def _disconnect(self, packet: Packet) -> Packet | None:
        if self._known(packet) is _State.LEFT:
            return None
        self._namespaces[packet.namespace] = _State.LEFT
        return packet

    def _data(self, packet: Packet, now: float) -> Packet | None:
        if self._known(packet) is _State.CONNECTING:
            raise ProtocolError("packet for a namespace that is not joined yet")
        if packet.attachments:
            self._assembler = BinaryAssembler(packet, self._limits)
            self._attachments_by = now + self._limits.attachments_timeout
            return None
        return self._if_open(packet)

    def _known(self, packet: Packet) -> _State:
        state = self._namespaces.get(packet.namespace)
        if state is None:
            raise ProtocolError("packet for a namespace that was not joined")
        return state

    def _if_open(self, packet: Packet) -> Packet | None:
        if self._namespaces.get(packet.namespace) is _OPEN:
            return packet
        self._dropped += 1
        return None
