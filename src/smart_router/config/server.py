"""Settings of the process and its port: `[server]`, `[log]`, `[health]`, `[broker]`, `[auth]`.

Times in seconds, sizes in bytes. Read through `smart_router.config.schema`, which offers them all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

__all__ = [
    "AuthSettings",
    "BrokerSettings",
    "Count",
    "GatewaySettings",
    "HealthSettings",
    "LimitSettings",
    "LogSettings",
    "Positive",
    "PositiveSeconds",
    "Rate",
    "Seconds",
    "ServerSettings",
    "TlsSettings",
    "TokenSettings",
]

# The upper bounds keep sums with the wall clock's milliseconds within 64 bits, and refuse `inf`.
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=1e9)]
Rate = Annotated[float, Meta(ge=0, le=1e12)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**31)]

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class TokenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[auth.tokens]]`: one static token. It does not expire; to end it, revoke its subject and take it out of the
    file.

    `token`: the secret text, at least 16 characters. `subject`: who bears it, for rules and revocation. `scope`: words
    separated by spaces (`admin` may register sub-endpoints, revoke and check). `claims`: what rules find under
    `claims`.
    """

    token: Annotated[str, Meta(min_length=16)]
    subject: Annotated[str, Meta(min_length=1, max_length=512)]
    scope: str = ""
    claims: dict[str, str | int | float | bool | list[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"TokenSettings(token=…, subject={self.subject!r}, scope={self.scope!r})"


class AuthSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[auth]`: who is let in. None of `secret`, `jwks`, `tokens`: no authentication, and loopback only (see
    `insecure`).

    `secret`: shared secret of HS256/384/512 tokens, at least 32 characters. `jwks`: a file or an https address of
    public keys. `algorithms`: those accepted; empty: HS256 with a secret, RS256, ES256 and EdDSA with `jwks`.
    `audience`, `issuer`: what the token's `aud` and `iss` must be; none: not looked at. `leeway`: seconds that clocks
    may differ, at most 300. `insecure`: listen on other than loopback without authentication all the same.
    """

    secret: Annotated[str, Meta(min_length=32)] | None = None
    jwks: str | None = None
    algorithms: list[Algorithm] = field(default_factory=list)
    audience: str | None = None
    issuer: str | None = None
    leeway: Annotated[float, Meta(ge=0, le=300)] = 0.0
    tokens: list[TokenSettings] = field(default_factory=list)
    insecure: bool = False

    @property
    def enabled(self) -> bool:
        """True when anybody must show a token."""
        return bool(self.secret or self.jwks or self.tokens)

    def __repr__(self) -> str:
        ways = {"secret": self.secret, "jwks": self.jwks, "tokens": self.tokens}
        return f"AuthSettings({', '.join(f'{name}=…' for name, value in ways.items() if value)})"


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[server.gateways]]`: one protocol on one path. Giving any replaces the two defaults (see `ServerSettings`).

    `kind`: `socketio`, `plain` (our JSON protocol), or below Socket.IO `engineio` and `websocket`: bare messages for a
    `handler`. `path`: where; Socket.IO's and Engine.IO's end with `/`. `ping_interval`, `ping_timeout`: a connection
    that has not answered a ping after the latter is closed. `connect_timeout`: from the connection to the first
    identified namespace. `max_payload`: bytes of one message, packet or polling body. `handler`: `module:attribute`, a
    handler of gateways/base.py instead of the router's own: then no mailboxes, no routes.
    """

    kind: Literal["socketio", "plain", "engineio", "websocket"]
    path: str
    ping_interval: PositiveSeconds = 25.0
    ping_timeout: PositiveSeconds = 20.0
    connect_timeout: PositiveSeconds = 45.0
    max_payload: Annotated[int, Meta(ge=1024, le=67_108_864)] = 131_072
    handler: str | None = None


class TlsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server.tls]`: both files in PEM form; TLS 1.2 or newer, no renegotiation.

    `certificate`: the chain, own certificate first. `key`: the private key, not encrypted. `minimum`: oldest version.
    """

    certificate: str
    key: str
    minimum: Literal["1.2", "1.3"] = "1.2"


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server.limits]`: what one peer may cost. 0 means no limit for the counts of connections and handshakes only.

    `handshake_timeout`: seconds for TLS and the request head; `body_timeout`: for a request body. `header_bytes`,
    `headers`: of a request head. `body_bytes`: of an HTTP body other than a polling one. `connections`: in all;
    `connections_per_address`: loopback is not counted; `half_open_per_address`: unfinished and older than a second;
    `handshakes_at_once`: more wait, and beyond ten times that get 503. The rest is per connection: `namespaces`
    (`namespace_bytes` a name), `nesting` of JSON, `attachments` of a packet, `packets_per_post`, `fragments` of a
    WebSocket message. `read_buffers`: bytes that all WebSockets together may hold of messages that are not whole yet;
    over it those that hold most are closed. What we await from a client is bounded by its sessions' windows.
    """

    handshake_timeout: PositiveSeconds = 10.0
    body_timeout: PositiveSeconds = 30.0
    header_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 16_384
    headers: Annotated[int, Meta(ge=10, le=10_000)] = 100
    body_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 1_048_576
    connections: Count = 20_000
    connections_per_address: Count = 1_000
    half_open_per_address: Count = 100
    handshakes_at_once: Count = 100
    namespaces: Positive = 32
    namespace_bytes: Positive = 128
    nesting: Annotated[int, Meta(ge=1, le=1000)] = 64
    attachments: Count = 10
    packets_per_post: Positive = 1_024
    fragments: Positive = 1_024
    read_buffers: Annotated[int, Meta(ge=1_048_576)] = 268_435_456


def _gateways() -> list[GatewaySettings]:
    return [GatewaySettings(kind="socketio", path="/socket.io/"), GatewaySettings(kind="plain", path="/ws")]


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the port. `host`: an address or name; other than loopback needs `[auth]`. `port`: 0 for any free one.

    `gateways`: by default Socket.IO on `/socket.io/` and the plain protocol on `/ws`. `origins`: web origins let in
    besides the server's own, `https://chat.example.org`. `require_origin`: refuse requests without one (programs send
    none). `trusted_proxies`: addresses or networks (`10.0.0.0/8`) whose `Forwarded` and `X-Forwarded-For` are believed.
    `proxy_protocol`: `v2` when the proxies speak PROXY protocol version 2, then only trusted ones may connect. `tls`:
    none for plain HTTP. `drain`: seconds that a stop may take until what is left is cut; 0: cut at once. `static`: a
    folder of files served under `/`; none: no files.
    """

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    gateways: Annotated[list[GatewaySettings], Meta(min_length=1)] = field(default_factory=_gateways)
    origins: list[str] = field(default_factory=list)
    require_origin: bool = False
    trusted_proxies: list[str] = field(default_factory=list)
    proxy_protocol: Literal["off", "v2"] = "off"
    tls: TlsSettings | None = None
    limits: LimitSettings = field(default_factory=LimitSettings)
    drain: Annotated[float, Meta(ge=0, le=3600)] = 8.0
    static: str | None = None


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`, on stderr. `format`: `json` lines, `console` for people, `auto`: console on a terminal. `access`: a line
    for each HTTP request and each connection."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = False


class HealthSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[health]`. `entries`: warnings and errors kept for the next check; the oldest go first."""

    entries: Annotated[int, Meta(ge=1, le=100_000)] = 100


class BrokerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[broker]`. `url`: `embedded://` (in the data folder), `embedded://PATH` (that folder), `embedded://memory`
    (nothing on disk: a restart forgets all), `redis://…`, `amqp://…` (docs/brokers.md). `commit_delay`: seconds that a
    group commit waits at most for more; 0: at once. `lease`: seconds after which what a silent node held goes to others
    (Redis).
    `prefix`: of all names in RabbitMQ; installations with different ones may share a virtual host."""

    url: str = "embedded://"
    commit_delay: Annotated[float, Meta(ge=0, le=1)] = 0.005
    lease: Annotated[float, Meta(ge=0.1, le=300)] = 10.0
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~@:+\-]{1,64}$")] = "smart-router"
