"""Every setting there is, with its unit, default and the meaning of 0 and none.

    Settings ─┬─ [server] ─┬─ [[server.gateways]]      [log]  [health]  [broker]  [auth] ── [[auth.tokens]]
              │            └─ [server.tls]  [server.limits]
              ├─ [endpoints.NAME] ─┬─ retry
              │                    └─ access
              └─ [[routes]] ── publish

Times in seconds, sizes in bytes. The Structs check nothing when built by hand: `config.load` and `config.endpoint` do.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from smart_router.config.server import (
    AuthSettings,
    BrokerSettings,
    Count,
    GatewaySettings,
    HealthSettings,
    LimitSettings,
    LogSettings,
    PositiveSeconds,
    Rate,
    Seconds,
    ServerSettings,
    TlsSettings,
    TokenSettings,
)

__all__ = [
    "AccessSettings",
    "AuthSettings",
    "BrokerSettings",
    "EndpointSettings",
    "GatewaySettings",
    "HealthSettings",
    "LimitSettings",
    "LogSettings",
    "PublishSettings",
    "RetrySettings",
    "RouteSettings",
    "ServerSettings",
    "Settings",
    "TlsSettings",
    "TokenSettings",
]


class RetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After an attempt that timed out or was refused (`ack = "client"`).

    `attempts`: writes in all, then dead letter; 1: never again. `first_delay` s before the second, each next one
    `multiplier` times as long, at most `max_delay`; 0: at once. `jitter`: the part of a delay that is random, 0 to 1.
    """

    attempts: Annotated[int, Meta(ge=1, le=1000)] = 3
    first_delay: Seconds = 1.0
    multiplier: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_delay: Seconds = 10.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2


class AccessSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may what, as CEL conditions (variables: config/conditions.py). None: whoever the authentication lets in.

    `connect`: be the actor, looked at on `iam`. `publish`: a sender of this endpoint, at each message. `read`: be given
    a message, looked at again at each delivery when rights have changed. `presence`: an actor of this endpoint, to know
    of another actor whether it is there.
    """

    connect: str | None = None
    publish: str | None = None
    read: str | None = None
    presence: str | None = None


class EndpointSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[endpoints.NAME]`: a kind of actor and the policies of its mailboxes.

    `name`: from the table's name. `sub_endpoints`: none: the endpoint has no sub-endpoints, its actors are `NAME/own`;
    a list, maybe empty: it has, actors are `NAME/sub/own`, and these subs exist from the start. `mailbox`: what an
    actor reads: its own, the (sub-)endpoint's shared one, or both. `durability`: `durable` outlives restarts; `memory`
    does not. `ack`: when a delivery counts (docs/configuration.md); `delivery_timeout`: seconds a delivery may stay
    unconfirmed. `heartbeat_interval`: seconds within which a session is heard, else it is not healthy; none: the
    gateway's `ping_interval`, 0: not looked at. `presence_grace`: seconds after its last session's end that an
    actor is not offline yet. `window`, `window_bytes`: unconfirmed deliveries a session may have; 1: strictly one
    by one. `retry`: after a failed attempt. `max_messages`, `max_bytes`: what may wait in one mailbox, 0: no limit;
    `overflow`: what then happens. `max_message_size`: bytes of one message with attachments. `ttl`: seconds a
    message may wait, 0: for ever. `idle_expiry`: seconds until an empty mailbox without a session goes, 0: never.
    `max_mailboxes`: of the endpoint, 0: no limit; `new_mailboxes_per_minute`: that one sender may cause, 0: no
    limit. `deliver`: among several sessions; none: `primary` for an actor's mailbox, `any` for a shared one.
    `recovery`: Socket.IO connection state recovery; `recovery_window`: seconds it is possible after a cut.
    `messages_per_second`, `bytes_per_second`: that one connection may send, 0: no limit. `access`: who may what.
    """

    name: str = ""
    sub_endpoints: list[str] | None = None
    mailbox: Literal["actor", "endpoint", "actor+endpoint"] = "actor"
    durability: Literal["durable", "memory"] = "durable"
    ack: Literal["sent", "received", "client"] = "received"
    delivery_timeout: PositiveSeconds = 5.0
    heartbeat_interval: Seconds | None = None
    presence_grace: Seconds = 10.0
    window: Annotated[int, Meta(ge=1, le=65_535)] = 128
    window_bytes: Annotated[int, Meta(ge=1024, le=2**31)] = 1_048_576
    retry: RetrySettings = field(default_factory=RetrySettings)
    max_messages: Count = 10_000
    max_bytes: Count = 16_777_216
    max_message_size: Annotated[int, Meta(ge=1, le=67_108_864)] = 65_536
    ttl: Seconds = 86_400.0
    overflow: Literal["drop-oldest", "drop-newest", "refuse"] = "drop-oldest"
    idle_expiry: Seconds = 900.0
    max_mailboxes: Count = 100_000
    new_mailboxes_per_minute: Count = 1_000
    deliver: Literal["primary", "any"] | None = None
    recovery: bool = False
    recovery_window: PositiveSeconds = 120.0
    messages_per_second: Rate = 0.0
    bytes_per_second: Rate = 0.0
    access: AccessSettings = field(default_factory=AccessSettings)


class PublishSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One publication of a route. `to`: a plain path such as `ids.agent`, or CEL that gives an address or a list of
    them. `type`: the type it goes out as; none: as it came."""

    to: str
    type: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class RouteSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[routes]]`: what happens to a type received on an endpoint (`*`: on any that has no route of its own for it).

    Routes of one (endpoint, type) are tried in the file's order; the first whose `when` holds is taken, none: always.
    When none holds the sender gets `no_route`. `publish`: one or more; all of them happen.
    """

    endpoint: str
    type: Annotated[str, Meta(min_length=1, max_length=128)]
    when: str | None = None
    publish: Annotated[list[PublishSettings], Meta(min_length=1)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Before the first table stand `data`, `store`, `app`, `demo`, `node`, `roles`, `directory`.

    `data`: the node's folder, made if missing. `store`: what is remembered besides mailboxes; `sqlite:///` alone is in
    the data folder, `sqlite:///PATH` elsewhere, `sqlite:///:memory:` nowhere; `postgresql://…` in a database that nodes
    may share. `app`: `module:attribute`, a SmartRouter; the file's own folder is on the path. `demo`: serve the chat
    page on `/` and run its bot. `node`: how this node's id begins; none: the machine's name. `roles`: `gateway`: holds
    clients' connections; `router`: routes what they send, and looks after mailboxes; as long as a gateway's node routes
    by itself, it has both. `directory`: who is where, on all nodes; none: as the broker has it (`embedded`: `local`;
    RabbitMQ: `bus`; Redis: that Redis); else `bus`, or a Redis by its URL.
    """

    server: ServerSettings = field(default_factory=ServerSettings)
    endpoints: dict[str, EndpointSettings] = field(default_factory=dict)
    routes: list[RouteSettings] = field(default_factory=list)
    auth: AuthSettings = field(default_factory=AuthSettings)
    log: LogSettings = field(default_factory=LogSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    data: str = "./smart-router-data"
    store: str = "sqlite:///"
    app: str | None = None
    demo: bool = False
    node: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    roles: Annotated[list[Literal["gateway", "router"]], Meta(min_length=1)] = field(
        default_factory=lambda: ["gateway", "router"]
    )
    directory: str | None = None

    def __repr__(self) -> str:
        """Without the store's user and password."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("store", "directory"):
            shown[name] = re.sub(r"//.*@", "//…@", shown[name] or "") or None
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
