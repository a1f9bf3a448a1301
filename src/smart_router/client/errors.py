"""How a client tells that it is over, and how it reads the router's errors."""

from __future__ import annotations

import msgspec

from smart_router.errors import CODES, Refused
from smart_router.protocols.plain import Error

__all__ = ["Closed", "Cut", "read_error", "refused"]


class Closed(ConnectionError):
    """The client is closed and does not come back. `__cause__`: why, when it was not the application that closed it."""

    def again(self) -> Closed:
        """The same for one more caller: a raised exception belongs to one traceback."""
        copy = Closed(*self.args)
        copy.__cause__ = self.__cause__
        return copy


class Cut(ConnectionError):
    """One connection ended; the client may come back. `delay`: after so many seconds, if the server said so."""

    def __init__(self, code: int, reason: str = "", delay: float | None = None) -> None:
        super().__init__(f"the connection ended with {code}{': ' if reason else ''}{reason}")
        self.code = code
        self.delay = delay


def refused(error: Error, **details: object) -> Refused:
    """The router's error as an exception; a code that only a later router knows is kept too."""
    told = {key: value for key in ("type", "address", "id", "limit") if (value := getattr(error, key)) is not None}
    known = error.code if error.code in CODES else "unsupported"
    exception = Refused(known, error.message, **{**told, **details})
    exception.code = error.code
    exception.temporary = error.temporary
    return exception


def read_error(raw: bytes) -> Error:
    """An error's object without `op`, as answers hold it. msgspec's errors if it is none."""
    return msgspec.json.decode(raw, type=_Plain).frame()


class _Plain(msgspec.Struct, gc=False):
    code: str
    message: str = ""
    temporary: bool = False
    type: str | None = None
    address: str | None = None
    id: str | None = None
    limit: int | None = None

    def frame(self) -> Error:
        return Error(self.code, self.message, self.temporary, self.type, self.address, self.id, self.limit)
