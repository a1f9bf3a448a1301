"""The query and the body of a request, as Structs of ours: checked in full, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
from litestar import Request

from smart_router.api.problems import WrongMediaType
from smart_router.errors import Refused

__all__ = ["Address", "Limit", "Name", "Prefix", "Time", "body_of", "query_of", "raw_body"]

T = TypeVar("T")

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000, description="How many at most.")]
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=400, description="`endpoint/x` or `endpoint/sub/x`.")]
Prefix = Annotated[str, msgspec.Meta(max_length=400, description="Only those that begin with it.")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, description="ms since 1970 UTC; 0: no bound.")]

_JSON: Final = "application/json"


def query_of(request: Request[Any, Any, Any], type_: type[T]) -> T:
    """Refused `bad_message`: an unknown key, one given twice, or a value of the wrong form."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise Refused("bad_message", f"`{name[:64]}` is given twice.")
        values[name] = value
    try:
        return msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        raise Refused("bad_message", f"In the query: {error}.") from None


async def raw_body(request: Request[Any, Any, Any]) -> bytes:
    """Refused `unsupported` if it is not said to be JSON: a page elsewhere can send all else without asking (CSRF)."""
    if request.content_type[0] != _JSON:
        raise WrongMediaType
    return await request.body()


async def body_of(request: Request[Any, Any, Any], type_: type[T]) -> T:
    """As `raw_body`; Refused `bad_message` if it is not what is asked for."""
    try:
        return msgspec.json.decode(await raw_body(request), type=type_)
    except msgspec.ValidationError as error:
        raise Refused("bad_message", f"In the body: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("bad_message", "The body is not the JSON that is expected here.") from None
