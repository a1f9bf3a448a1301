"""The limits of one listening port, and its counters."""

from __future__ import annotations

import ssl
from typing import Literal, NamedTuple

import msgspec

__all__ = ["ListenerSettings", "ListenerStatistics"]


class ListenerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, sizes in bytes; 0 is no limit for the counts of connections and handshakes only."""

    host: str = "127.0.0.1"  # an address or a name; every address of a name is listened on
    port: int = 8080  # 0: any free one, see Listener.addresses
    tls: ssl.SSLContext | None = None
    backlog: int = 2048
    max_message: int = 131_072  # one WebSocket message with all its fragments, unless HttpRequest.max_message is set
    fragments: int = 1_024  # frames of one WebSocket message
    read_buffers: int = 268_435_456  # of all WebSockets, for what is no whole message yet; over it the largest end
    head_bytes: int = 16_384
    head_count: int = 100
    body_bytes: int = 1_048_576
    head_timeout: float = 10.0  # TLS handshake, PROXY header, request head
    body_timeout: float = 30.0
    keep_alive: float = (
        30.0  # from an answer to the next request; above Engine.IO's pingInterval, polls follow each other
    )
    close_timeout: float = 5.0  # for the closing handshake and the last bytes
    connections: int = 20_000
    connections_per_address: int = 1_000
    limit_loopback: bool = False  # does the limit per address hold for loopback too?
    half_open_per_address: int = 100  # without a complete head for more than a second; then the oldest goes
    handshakes_at_once: int = 100  # WebSocket handshakes in one loop turn; ten times as many wait, the rest gets 503
    control_frames_per_second: int = 1_000  # pings, and pongs nobody asked for, of one connection; above: 1008
    retry_after: int = 5  # said with each 503
    receive_buffer: int = 65_536  # SO_RCVBUF of a connection: bounds what one read can bring; 0: the kernel's own
    write_high_water: int = 65_536  # transport buffer from which `writable(False)` is told
    origins: tuple[str, ...] = ()
    require_origin: bool = False
    addresses_only: bool = False  # our own pages are those under an IP address or localhost (origin.py)
    any_name: tuple[str, ...] = ()  # paths answered under whatever name all the same: probes of load balancers
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: Literal["off", "optional", "v2"] = "off"  # v2: required, and only trusted proxies may connect
    access_log: bool = False  # a line for each request, two for each WebSocket


class ListenerStatistics(NamedTuple):
    """What there is now, then counters since the start."""

    connections: int
    websockets: int
    http: int
    addresses: int
    handshakes_waiting: int
    read_buffers: int  # bytes that WebSockets held at the last look, beyond what each begins with
    accepted: int
    connections_refused: int  # 503: over the limit in all or per address, or draining
    half_open_closed: int  # the oldest of too many without a request head
    heads_late: int
    bodies_late: int
    tls_failed: int
    proxy_headers_bad: int
    requests: int
    answers: int
    requests_refused: int  # malformed or over a limit: 4xx, 5xx and close
    application_errors: int
    handshakes_refused: int  # 4xx or 5xx instead of an upgrade
    origins_refused: int  # of these: foreign or missing Origin; and HTTP requests of a page under a name
    websockets_opened: int
    websockets_closed: int
    websockets_failed: int  # of these: the peer broke RFC 6455 or a limit, or a handler raised
    control_floods: int
    buffers_closed: int  # of these: held most when all together held too much
    handler_errors: int
    pings: int
    pongs: int
    writes: int  # corked writes; messages per write is what corking brings
