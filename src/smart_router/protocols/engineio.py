"""Engine.IO 4, server side, without I/O or a clock: one session, over polling, WebSocket, or one after the other.

    opened ──► polling ──begin_upgrade──► probing ──`5`──► websocket
                  │                          │ abort_upgrade / time   │
                  │◄─────────────────────────┘                        │
                  └──────────── closed (close_reason) ◄───────────────┘

The hot path does not come here: what begins with `4` (MESSAGE) and what is binary goes to the layer above as it
stands, so a WebSocket gateway reads `if data[0] == MESSAGE: above(data) else: session.receive(data)`, and writes
messages to its socket itself. While polling it hands what it writes, pings included, to `send`, and answers the
waiting GET with `take_body`.

A fault of the peer closes the session and raises ProtocolError; ValueError is a wrong call of ours. `now` is monotonic
seconds.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from smart_router.errors import ProtocolError
from smart_router.protocols.engineio_handshake import (
    EngineOptions,
    HandshakeError,
    Transport,
    check_request,
    open_packet,
    parse_query,
)
from smart_router.protocols.engineio_payload import (
    CLOSE,
    MESSAGE,
    NOOP,
    PONG,
    Packet,
    decode_payload,
    encode_payload,
)
from smart_router.protocols.engineio_pings import Pings
from smart_router.protocols.engineio_polling import PING_PACKET, PollQueue

__all__ = [
    "MESSAGE",
    "EngineOptions",
    "EngineSession",
    "EngineStatistics",
    "HandshakeError",
    "Packet",
    "Transport",
    "check_request",
    "decode_payload",
    "encode_payload",
    "open_packet",
    "parse_query",
]

_CLOSE_BODY = b"1"
_NOOP_BODY = b"6"


class EngineStatistics(NamedTuple):
    """One session, as of now."""

    transport: Transport
    pings_sent: int
    pings_answered: int
    ignored_pongs: int
    backlog_packets: int
    backlog_bytes: int


class EngineSession:
    """One session from its handshake to its end; `open_packet` is the first thing that its client is sent."""

    __slots__ = ("_final_body", "_options", "_pings", "_polling", "_probe_by", "_probed", "close_reason", "sid")

    def __init__(self, sid: str, transport: Transport, options: EngineOptions, now: float) -> None:
        self.sid = sid
        self.close_reason: str | None = None
        self._options = options
        self._pings = Pings(options.ping_interval, options.ping_timeout, now)
        self._polling = (
            PollQueue(options.max_packets_out, options.max_payload) if transport is Transport.POLLING else None
        )
        self._probe_by: float | None = None  # an upgrade is going on, and ends then at the latest
        self._probed = False  # … and its probe has been answered
        self._final_body = _CLOSE_BODY

    @property
    def open_packet(self) -> bytes:
        """The handshake packet `0{…}`, as text frame or body of the answer."""
        return open_packet(self.sid, self.transport, self._options)

    @property
    def transport(self) -> Transport:
        """What carries messages now; `finish_upgrade` changes it."""
        return Transport.WEBSOCKET if self._polling is None else Transport.POLLING

    @property
    def closed(self) -> bool:
        return self.close_reason is not None

    @property
    def upgrading(self) -> bool:
        """A second connection is probing; when this turns False without a new transport, close that connection."""
        return self._probe_by is not None

    @property
    def pings_sent(self) -> int:
        """The number of the newest ping."""
        return self._pings.sent

    @property
    def pings_answered(self) -> int:
        """Ping of this number and all that was written before it have reached the client."""
        return self._pings.answered

    def statistics(self) -> EngineStatistics:
        pings, queue = self._pings, self._polling
        backlog = (len(queue), queue.size) if queue is not None else (0, 0)
        return EngineStatistics(self.transport, pings.sent, pings.answered, pings.ignored_pongs, *backlog)

    # What comes in, over either transport

    def receive(self, data: bytes) -> None:
        """Take one text packet that is no message. The client's own close is no error: look at `closed` afterwards."""
        kind = data[0] if data else -1
        if kind == PONG:
            self._pings.pong()
        elif kind == MESSAGE:
            raise ValueError("messages go to the layer above")
        elif kind == CLOSE:
            self._final_body = _NOOP_BODY
            self.close("closed by the client")
        elif kind != NOOP:
            self._fail("unexpected packet type")

    # Time

    def ping(self, now: float) -> bytes:
        """A ping that the caller writes behind whatever it shall prove: number `pings_sent` from here on."""
        self._pings.send(now)
        return PING_PACKET

    def next_deadline(self) -> float | None:
        """When to call `handle_timer`; None once closed."""
        if self.closed:
            return None
        deadline = self._pings.deadline
        return deadline if self._probe_by is None else min(deadline, self._probe_by)

    def handle_timer(self, now: float) -> bytes | None:
        """The heartbeat to write, if it is due. Ends a session without a pong, and an upgrade that takes too long."""
        if self.closed:
            return None
        self._check_alive(now)
        if self._probe_by is not None and now >= self._probe_by:
            self.abort_upgrade()
        if now < self._pings.due:
            return None
        self._pings.send_due(now)
        return PING_PACKET

    # Polling

    def send(self, data: bytes, binary: bool = False) -> bool:
        """Queue one packet for the polls. False: the session is closed, or closes now since its backlog is full."""
        queue = self._queue()
        if self.closed:
            return False
        queue.put(Packet(data, binary))
        if queue.size > self._options.max_backlog:
            self.close("backlog is full")
            return False
        return True

    def poll(self, now: float) -> bytes | None:
        """A GET has come: its answer's body, or None: the GET waits for `take_body`.

        It proves that the last answer arrived. A second one while one waits ends the session: the waiting one gets
        `take_body`, the new one a 400.
        """
        queue = self._queue()
        self._check_alive(now)
        if queue.waiting:
            self._fail("polls overlap")
        self._pings.proven(queue.pings_taken)
        queue.waiting = True
        return self.take_body()

    def take_body(self) -> bytes | None:
        """The body for the GET that waits, if there are both. Call it after whatever may have sent."""
        queue = self._polling
        if queue is None or not queue.waiting:
            return None
        if self.closed:
            body = self._final_body
        elif queue:
            body = queue.take_body()
        elif self._probed:
            body = _NOOP_BODY
        else:
            return None
        queue.waiting = False
        return body

    @property
    def poll_waits(self) -> bool:
        """A GET is waiting for its answer."""
        return self._polling is not None and self._polling.waiting

    def poll_aborted(self) -> None:
        """The client has gone away from its waiting GET: what it might have missed nobody knows, the session ends."""
        self._queue().waiting = False
        self.close("poll aborted")

    def post(self, body: bytes, now: float) -> list[Packet]:
        """The packets of a POST, for `receive` and the layer above, in order, until `closed`."""
        self._queue()
        self._check_alive(now)
        if len(body) > self._options.max_payload:
            self._fail("body is too large", 1009)
        try:
            return decode_payload(body, self._options.max_packets_in)
        except ProtocolError as error:
            self.close(error.message)
            raise

    # Upgrade

    def begin_upgrade(self, now: float) -> None:
        """A WebSocket with our sid is there. ProtocolError: not now; close that WebSocket, the session lives."""
        if self.closed or self._polling is None or self._probe_by is not None:
            raise ProtocolError("no upgrade is possible now")
        self._probe_by = now + self._options.upgrade_timeout

    def receive_probe(self, data: bytes) -> bytes | None:
        """Take one text packet of the probing connection: the answer to write to it, or None.

        After the answer to the probe, polls are released with a noop (`take_body`). None is the answer to the client's
        `5`: call `finish_upgrade` at once. ProtocolError: as `begin_upgrade`.
        """
        if self._probe_by is None:
            raise ValueError("no upgrade is going on")
        if data == b"2probe" and not self._probed:
            self._probed = True
            return b"3probe"
        if data == b"5" and self._probed:
            self._probe_by = None
            return None
        self.abort_upgrade()
        raise ProtocolError("not a packet of an upgrade")

    def finish_upgrade(self) -> tuple[bytes | None, list[Packet]]:
        """Leave polling behind: the body for a GET that still waits, and what waits for the WebSocket, in order."""
        queue = self._queue()
        if not self._probed or self._probe_by is not None:
            raise ValueError("the upgrade is not complete")
        self._polling = None
        self._probed = False
        return (_NOOP_BODY if queue.waiting else None), queue.take_packets()

    def abort_upgrade(self) -> None:
        """The probing connection is gone or in fault; polling goes on."""
        self._probe_by = None
        self._probed = False

    # The end

    def close(self, reason: str) -> None:
        """End the session, once. A waiting GET is answered by `take_body`; a WebSocket is the caller's to close."""
        if self.close_reason is None:
            self.close_reason = reason
            self.abort_upgrade()
            if self._polling is not None:
                self._polling.take_packets()

    def _check_alive(self, now: float) -> None:
        if self.closed:
            raise ProtocolError("session is closed")
        expiry = self._pings.expiry
        if expiry is not None and now >= expiry:
            self._fail("ping timeout", 1008)

    def _fail(self, message: str, close_code: int = 1002) -> NoReturn:
        self.close(message)
        raise ProtocolError(message, close_code=close_code)

    def _queue(self) -> PollQueue:
        if self._polling is None:
            raise ValueError("the session is on a WebSocket")
        return self._polling
