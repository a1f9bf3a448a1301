"""What of an application's own objects is ours, for `msgspec.json.decode`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from smart_router.core.registration import Registration, read_registration
from smart_router.errors import Refused

__all__ = ["Actors", "Auth", "Nack", "Status", "Token", "nack_of", "read_actors", "read_argument"]

_T = TypeVar("_T")
_string: Final = msgspec.json.Decoder(str).decode
_NULL: Final = msgspec.Raw(b"null")


class Auth(msgspec.Struct):
    """Of the connection payload."""

    # A union with Raw is not decoded raw by msgspec: `null` stands for what is missing.
    actor: msgspec.Raw = _NULL
    token: msgspec.Raw = _NULL
    daemon: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL
    lease: msgspec.Raw = _NULL

    def registration(self) -> Registration:
        """Raises Refused."""
        return read_registration(bytes(self.daemon), bytes(self.status), bytes(self.metadata), bytes(self.lease))


class Token(msgspec.Struct):
    """Of `refresh`."""

    token: str


class Nack(msgspec.Struct):
    """Of the answer to a delivery."""

    nack: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Status(msgspec.Struct):
    """Of `status`."""

    status: Any


class Actors(msgspec.Struct):
    """Of `presence`, `watch` and `unwatch`."""

    actors: list[str]


def read_argument(args: Sequence[msgspec.Raw], type_: type[_T], form: str) -> _T:
    """The event's only argument. Raises Refused: `form` is what it takes."""
    try:
        return msgspec.json.decode(args[0] if args else b"null", type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("bad_message", f"This event takes {form}.") from None


def read_actors(args: Sequence[msgspec.Raw], limit: int) -> list[str]:
    """Each once, in order. Raises Refused."""
    named = read_argument(args, Actors, '{"actors": [ids]}').actors
    if not 0 < len(named) <= limit:
        raise Refused("bad_message", f"`actors` lists {len(named)} ids: 1 to {limit} are taken at once.", limit=limit)
    return list(dict.fromkeys(named))


def nack_of(args: Sequence[msgspec.Raw]) -> str | None:
    """The reason, if the application's answer is `{"nack": reason}`; any other answer confirms."""
    if not args or not bytes(args[0]).startswith(b"{"):
        return None
    try:
        nack = msgspec.json.decode(args[0], type=Nack).nack
    except msgspec.DecodeError:
        return None
    if nack is msgspec.UNSET:
        return None
    try:
        return _string(nack)[:256]
    except msgspec.DecodeError:
        return "refused by the application"
