"""Channel 0: the life of a connection, client's side (AMQP 0-9-1, 2.2.4; RabbitMQ's capabilities).

NEW ─begin─► GREETED ─start─► LOGGED_IN ─tune─► OPENING ─open-ok─► OPEN ─close─► CLOSING ─close-ok─► CLOSED
                                                                     └──── close by the broker ──────► CLOSED
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from smart_router.protocols.amqp import MAX_FRAME, MIN_FRAME, PROTOCOL_HEADER, Encoder, FrameError
from smart_router.protocols.amqp_decoder import Decoder, Got, OnDeliver, Receiver
from smart_router.protocols.amqp_methods import Method

__all__ = ["CAPABILITIES", "Ending", "Login", "Phase", "Protocol", "Server", "Tuning"]

CAPABILITIES: Final = (
    "publisher_confirms",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
    "exchange_exchange_bindings",
)
"""What we say that we understand, and need of the broker."""


class Phase(Enum):
    NEW = auto()
    GREETED = auto()
    LOGGED_IN = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Login(NamedTuple):
    """`name`: of this connection, in the broker's lists."""

    user: str
    password: str
    vhost: str
    name: str

    def __repr__(self) -> str:
        return f"Login({self.user} at {self.vhost})"


class Tuning(NamedTuple):
    """What we want, later what was agreed on. `heartbeat` in seconds; 0: none."""

    channel_max: int = 128
    frame_max: int = MAX_FRAME
    heartbeat: int = 5


class Server(NamedTuple):
    """Who answered. `version`: (3, 10, 8)."""

    product: str
    version: tuple[int, ...]
    cluster: str
    capabilities: frozenset[str]


class Ending(NamedTuple):
    """Why the broker closed the connection, and in which phase it was."""

    code: int
    text: str
    phase: Phase


class Protocol:
    """A whole connection without its socket. `channels`: the receivers of the channels by number; 0 is its own.

    `write` gets the bytes to send. `on_blocked` gets the alarm's reason, "" when it is over.
    """

    def __init__(
        self, login: Login, wanted: Tuning, write: Callable[[bytes], None], on_blocked: Callable[[str], None]
    ) -> None:
        self.phase = Phase.NEW
        self.tuning = wanted
        self.server: Server | None = None
        self.ending: Ending | None = None
        self.channels: dict[int, Receiver] = {}
        self.decoder = Decoder(self.channels)
        self._login = login
        self._write = write
        self._channel_zero = _ChannelZero(self._method)
        self._encoder = Encoder(0)
        self._on_blocked = on_blocked
        self.channels[0] = self._channel_zero

    def begin(self) -> None:
        self.phase = Phase.GREETED
        self._write(PROTOCOL_HEADER)

    def receive(self, data: bytes) -> None:
        """See Decoder.receive. FrameError: `close(error.reply_code)` tells the broker."""
        if self.phase is Phase.GREETED and data.startswith(b"AMQP"):
            raise FrameError(501, "the other end speaks another version of AMQP")
        self.decoder.receive(data)

    def close(self, code: int = 200, text: str = "") -> None:
        """Says goodbye; before the connection is open there is nobody to say it to."""
        if self.phase is Phase.OPEN:
            self.phase = Phase.CLOSING
            self._send("connection.close", code=code, text=text)
        elif self.phase is not Phase.CLOSING:
            self.phase = Phase.CLOSED

    def _send(self, name: str, **fields: Any) -> None:
        self._write(self._encoder.method(Method(name, **fields)))

    def _method(self, method: Method) -> None:
        handle = _TABLE.get((self.phase, method.name)) or _ANY_PHASE.get(method.name)
        if self.phase is Phase.CLOSING and handle is None:
            return  # what was on its way
        if handle is None:
            raise FrameError(503, f"{method.name} is not allowed now")
        handle(self, method)

    def _start(self, method: Method) -> None:
        self.server = _read_server(method["properties"])
        if b"PLAIN" not in method["mechanisms"].split():
            raise FrameError(503, "the broker offers no login with user and password (PLAIN)")
        self.phase = Phase.LOGGED_IN
        login = self._login
        self._send(
            "connection.start-ok",
            properties={
                "product": "Smart Router",
                "platform": "Python",
                "connection_name": login.name,
                "capabilities": dict.fromkeys(CAPABILITIES, True),
            },
            mechanism="PLAIN",
            response=f"\0{login.user}\0{login.password}".encode(),
            locale="en_US",
        )

    def _tune(self, method: Method) -> None:
        """The smaller of both; 0 of theirs: no limit. A heartbeat that they want not, we want all the same."""
        wanted = self.tuning
        frame_max = min(wanted.frame_max, method["frame_max"] or MAX_FRAME)
        if frame_max < MIN_FRAME:
            raise FrameError(501, "the broker's frame_max is below 4096")
        self.tuning = Tuning(
            channel_max=min(wanted.channel_max, method["channel_max"] or wanted.channel_max),
            frame_max=frame_max,
            heartbeat=min(wanted.heartbeat, method["heartbeat"] or wanted.heartbeat),
        )
        self.decoder.frame_max = frame_max
        self.phase = Phase.OPENING
        self._send("connection.tune-ok", **self.tuning._asdict())
        self._send("connection.open", vhost=self._login.vhost)

    def _open_ok(self, _: Method) -> None:
        self.phase = Phase.OPEN

    def _close(self, method: Method) -> None:
        self.ending = Ending(method["code"], method["text"], self.phase)
        self._send("connection.close-ok")
        self.phase = Phase.CLOSED

    def _close_ok(self, _: Method) -> None:
        self.phase = Phase.CLOSED

    def _blocked(self, method: Method) -> None:
        self._on_blocked(method["reason"] or "an alarm")

    def _unblocked(self, _: Method) -> None:
        self._on_blocked("")


_TABLE: Final[dict[tuple[Phase, str], Callable[[Protocol, Method], None]]] = {
    (Phase.GREETED, "connection.start"): Protocol._start,
    (Phase.LOGGED_IN, "connection.tune"): Protocol._tune,
    (Phase.OPENING, "connection.open-ok"): Protocol._open_ok,
    (Phase.OPEN, "connection.blocked"): Protocol._blocked,
    (Phase.OPEN, "connection.unblocked"): Protocol._unblocked,
    (Phase.CLOSING, "connection.close-ok"): Protocol._close_ok,
}
_ANY_PHASE: Final = {"connection.close": Protocol._close}


class _ChannelZero:
    """Takes methods, and no messages."""

    def __init__(self, method: Callable[[Method], None]) -> None:
        self.consumers: dict[bytes, OnDeliver] = {}
        self.method = method

    def stray(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        raise FrameError(503, "a message on channel 0")

    def confirm(self, number: int, multiple: bool, ok: bool) -> None:
        raise FrameError(503, "a confirm on channel 0")

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None:
        raise FrameError(503, "a message on channel 0")

    def got(self, got: Got, properties: bytes, body: bytes) -> None:
        raise FrameError(503, "a message on channel 0")


def _read_server(properties: Mapping[str, Any]) -> Server:
    capabilities = properties.get("capabilities")
    names = capabilities.items() if isinstance(capabilities, dict) else ()
    return Server(
        product=_text(properties.get("product")),
        version=_read_version(_text(properties.get("version"))),
        cluster=_text(properties.get("cluster_name")),
        capabilities=frozenset(name for name, value in names if value is True),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_version(text: str) -> tuple[int, ...]:
    """(3, 13, 0) of `3.13.0-rc.2`."""
    numbers = []
    for part in text.partition("-")[0].partition("+")[0].split("."):
        if not part.isascii() or not part.isdigit() or len(part) > 9:
            break
        numbers.append(int(part))
    return tuple(numbers)
