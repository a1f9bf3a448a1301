"""What of an application's own objects is ours, for `msgspec.json.decode`."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Auth", "Nack", "Token"]

_NULL: Final = msgspec.Raw(b"null")


class Auth(msgspec.Struct):
    """Of the connection payload."""

    # A union with Raw is not decoded raw by msgspec: `null` stands for what is missing.
    actor: msgspec.Raw = _NULL
    token: msgspec.Raw = _NULL


class Token(msgspec.Struct):
    """Of `refresh`."""

    token: str


class Nack(msgspec.Struct):
    """Of the answer to a delivery."""

    nack: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
