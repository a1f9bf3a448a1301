"""Every error of Smart Router, one tree.

RouterError                code, message (says what to do), temporary (may the same thing work later, unchanged?)
├── ConfigError            a setting is wrong; raised before anything starts; `problems` lists every one
├── ProtocolError          a peer broke its protocol; its connection ends, nobody else notices
├── Refused                a message or a request was not accepted; told to whoever sent it; codes in CODES
└── StorageError           journal, store or broker cannot do what was asked; nothing was accepted
    ├── StorageFull        no room; temporary: works again by itself when there is room
    ├── StorageFailed      the medium failed; this journal is not used again by this process
    ├── StorageLocked      another process owns this path
    └── BrokerAway         the broker does not answer; temporary
"""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "CODES",
    "BrokerAway",
    "ConfigError",
    "ProtocolError",
    "Refused",
    "RouterError",
    "StorageError",
    "StorageFailed",
    "StorageFull",
    "StorageLocked",
]

CODES: Final[dict[str, bool]] = {
    # code: temporary?
    "bad_message": False,  # not an object, no `ids`, wrong types in `options`
    "bad_actor": False,  # an actor id of the wrong form
    "bad_address": False,  # a route published to something that is not an address
    "unknown_address": False,  # no such mailbox and no such endpoint
    "no_mailbox": False,  # the endpoint's mailbox mode gives that address none
    "no_route": False,  # the endpoint has no route for this type
    "route_error": False,  # the route raised; the message is dead-lettered
    "too_large": False,  # over the endpoint's message size; `limit` in bytes
    "unsupported": False,  # an option or policy that this version or broker does not offer
    "unauthorized": False,  # no token, or one that is not valid
    "forbidden": False,  # a valid subject that may not do this
    "token_expiring": True,  # told 30 s before expiry: send `refresh`
    "token_expired": False,
    "revoked": False,
    "already_identified": False,  # `iam` with another id on an identified connection
    "not_identified": False,  # a request that needs an identified session
    "unknown_event": False,  # an event that the root namespace does not know
    "unknown_message": False,  # an acknowledgement, mark or reply for something that is not waiting for one
    "no_recipient": False,  # a request whose route published it to nobody
    "reply_timeout": True,  # no reply within `options.reply` seconds; the message may still be delivered
    "reply_refused": False,  # a request that ended other than delivered for every recipient
    "mailbox_full": True,  # overflow policy `refuse`
    "too_many_mailboxes": True,  # the endpoint's or the sender's limit of new mailboxes
    "rate_limited": True,
    "not_found": False,  # no such HTTP path, mailbox, message, session or actor
    "bad_cursor": False,  # of another list, of other filters, or of what is gone
    "in_use": False,  # sessions read the mailbox that is to be deleted
    "method_not_allowed": False,  # the HTTP path has other methods
    "internal_error": False,  # our fault; the log says more
    "too_many_namespaces": False,
    "too_many_watches": False,  # of one actor, or of all together
    "busy": True,  # a bounded queue inside this node is full
    "shutting_down": True,
    "storage_full": True,
    "storage_failed": False,
    "storage_locked": False,
    "broker_away": True,
    "storage_error": False,
    "protocol_error": False,
    "config_error": False,
}


class RouterError(Exception):
    """Base of all; `as_dict()` is the shape of the `error` event (specs: actor routing, Routes)."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        """`details`: any of type, address, id, limit."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.temporary = CODES[code]
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "temporary": self.temporary, **self.details}


class ConfigError(RouterError):
    """Settings that cannot be used. `problems`: one text per mistake, each with its place and what to write instead."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("config_error", "\n".join(problems))
        self.problems = problems


class ProtocolError(RouterError):
    """The peer's fault: bytes that its protocol does not allow.

    `code` is ours, `message` names the rule, never the bytes.
    """

    def __init__(self, message: str, *, close_code: int = 1002) -> None:
        super().__init__("protocol_error", message)
        self.close_code = close_code


class Refused(RouterError):
    """Not accepted, nothing changed. Raised by a step of routing, told to the sender."""


class StorageError(RouterError):
    def __init__(self, message: str, code: str = "storage_error") -> None:
        super().__init__(code, message)


class StorageFull(StorageError):
    def __init__(self, message: str) -> None:
        super().__init__(message, "storage_full")


class StorageFailed(StorageError):
    def __init__(self, message: str) -> None:
        super().__init__(message, "storage_failed")


class StorageLocked(StorageError):
    def __init__(self, message: str) -> None:
        super().__init__(message, "storage_locked")


class BrokerAway(StorageError):
    def __init__(self, message: str) -> None:
        super().__init__(message, "broker_away")
