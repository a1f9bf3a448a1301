"""What a session says of itself when it connects: daemon, status, metadata, lease. All of it is good, or none taken."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import msgspec

from smart_router.errors import Refused
from smart_router.message import ACTOR_ID

__all__ = ["MAX_LEASE", "MAX_METADATA", "STATUSES", "USUAL", "Registration", "read_registration", "read_status"]

STATUSES: Final = ("active", "idle", "away")
"""Best first: an actor's presence is the best of its sessions'."""

MAX_METADATA: Final = 4096
"""Bytes of JSON."""

MAX_LEASE: Final = 604_800
"""Seconds: a week."""

_NULL: Final = b"null"
_decode: Final = msgspec.json.decode


class Registration(msgspec.Struct, frozen=True):
    """`daemon`: "" if none was given; `metadata`: a JSON object as text, or ""; `lease`: s after the last activity."""

    daemon: str = ""
    status: str = "active"
    metadata: str = ""
    lease: float = 3600.0

    def with_status(self, status: str) -> Registration:
        return msgspec.structs.replace(self, status=status)


USUAL: Final = Registration()


def read_registration(daemon: bytes, status: bytes, metadata: bytes, lease: bytes) -> Registration:
    """Of JSON texts, `null` where nothing was given. Raises Refused, which says what may stand there."""
    if daemon == status == metadata == lease == _NULL:
        return USUAL
    return Registration(
        _read_daemon(_value(daemon)),
        read_status(_value(status)) if status != _NULL else USUAL.status,
        _read_metadata(metadata),
        _read_lease(_value(lease)) if lease != _NULL else USUAL.lease,
    )


def read_status(status: object) -> str:
    """Raises Refused."""
    if not isinstance(status, str) or status not in STATUSES:
        _refuse(f"`status` is one of {', '.join(STATUSES)}.")
    return status


def _value(raw: bytes) -> Any:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def _read_daemon(daemon: object) -> str:
    if daemon is None:
        return ""
    if not isinstance(daemon, str) or not ACTOR_ID.match(daemon):
        _refuse("`daemon` is an id of 1 to 128 letters, digits and . _ ~ @ : + -")
    return daemon


def _read_metadata(raw: bytes) -> str:
    if raw == _NULL:
        return ""
    if len(raw) > MAX_METADATA:
        _refuse(f"`metadata` has {len(raw)} bytes, the limit is {MAX_METADATA}.", limit=MAX_METADATA)
    if not isinstance(_value(raw), dict):
        _refuse('`metadata` is an object: {"host": "…"}.')
    return raw.decode()


def _read_lease(lease: object) -> float:
    if not isinstance(lease, int | float) or isinstance(lease, bool) or not 1 <= lease <= MAX_LEASE:
        _refuse(f"`lease` is a number of seconds from 1 to {MAX_LEASE} (a week).", limit=MAX_LEASE)
    return float(lease)


def _refuse(text: str, **details: int) -> NoReturn:
    raise Refused("bad_message", text, **details)
