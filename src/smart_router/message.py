"""What travels: messages and their options.

A message is kept as the bytes that its recipients get: `body` is a JSON object that starts with the router's
`id`, `from` and `at`, followed by the sender's keys as they came. Nothing decodes it again on the way.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

__all__ = [
    "ACTOR_ID",
    "ANSWER",
    "NO_OPTIONS",
    "RECEIPTS",
    "TELL_DELIVERED",
    "TELL_FAILED",
    "TELL_QUEUED",
    "TELL_READ",
    "Envelope",
    "Message",
    "Options",
    "decode_envelope",
    "is_address",
    "wants_of",
]

ACTOR_ID: Final = re.compile(r"[A-Za-z0-9._~@:+\-]{1,128}\Z")
"""The own part of an actor's id, and a sub-endpoint's (specs: actor routing, Names)."""

_SEGMENT: Final = r"[A-Za-z0-9._~@:+\-]{1,128}"
_ADDRESS: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,2}}\Z")


def is_address(value: object) -> bool:
    """True for the form of an address: `endpoint`, `endpoint/x` or `endpoint/sub/own`."""
    return isinstance(value, str) and _ADDRESS.match(value) is not None


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, omit_defaults=True):
    """`options` of a message, the sender's. `ttl` in seconds; `priority` 0 (lowest) to 9, default 4; `id` for dedup."""

    id: str | None = None
    ttl: float | None = None
    priority: int | None = None
    supersede: str | None = None
    receipt: list[str] | None = None
    deliver: str | None = None
    reply: float | None = None
    trace: bool | None = None


NO_OPTIONS: Final = Options()

TELL_QUEUED: Final = 1
TELL_DELIVERED: Final = 2
TELL_READ: Final = 4
TELL_FAILED: Final = 8
ANSWER: Final = 16

RECEIPTS: Final = {"queued": TELL_QUEUED, "delivered": TELL_DELIVERED, "read": TELL_READ, "failed": TELL_FAILED}
"""What `options.receipt` may list."""


def wants_of(options: Options) -> int:
    """`Message.wants`, of options that have been checked."""
    wants = ANSWER if options.reply is not None else 0
    for name in options.receipt or ():
        wants |= RECEIPTS[name]
    return wants


class Envelope(msgspec.Struct, gc=False):
    """What of a message is decoded, once. `metadata`, `payload` and other keys stay bytes until an action looks.

    The last four are the router's own: what a sender put there is overwritten.
    """

    ids: dict[str, Any]
    options: Options = NO_OPTIONS
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sender: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)
    at: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    redelivered: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def forged(self) -> bool:
        unset = msgspec.UNSET
        return not (self.id is unset and self.sender is unset and self.at is unset and self.redelivered is unset)


decode_envelope: Final = msgspec.json.Decoder(Envelope).decode
"""Of one JSON object, checked in full. Raises msgspec.MsgspecError, RecursionError, UnicodeDecodeError."""


class Message(msgspec.Struct, gc=False):
    """One routed message as every broker keeps it. `expires_at`: wall ms, 0: never.

    `key`: the sender's `options.id`. `wants`: what the sender is to be told (`RECEIPTS`, `ANSWER`), 0: nothing.
    `asker`: the node at which it waits for the reply.
    """

    id: str
    sender: str
    at: int
    type: str
    body: bytes
    attachments: tuple[bytes, ...] = ()
    priority: int = 4
    expires_at: int = 0
    supersede: str | None = None
    key: str | None = None
    wants: int = 0
    asker: str | None = None

    @property
    def size(self) -> int:
        """Bytes that count against limits: body and attachments."""
        return len(self.body) + sum(map(len, self.attachments))
