"""What goes wrong over HTTP, as RFC 9457 has it: application/problem+json with our code, never a trace."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from smart_router.errors import Refused, RouterError

__all__ = ["EXCEPTION_HANDLERS", "SAFE_HEADERS", "WrongMediaType", "problem"]

SAFE_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every answer that is not a file: a browser runs, frames and keeps nothing of it."""

_STATUS: Final = {
    "unauthorized": 401,
    "token_expired": 401,
    "revoked": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "in_use": 409,
    "unsupported": 501,
    "rate_limited": 429,
    "busy": 503,
    "shutting_down": 503,
    "reply_timeout": 504,
    "reply_refused": 502,
    "broker_away": 503,
    "storage_full": 507,
    "storage_failed": 500,
    "storage_error": 500,
    "internal_error": 500,
}
"""Of our codes; every other is 400: the request's fault."""

_BY_STATUS: Final = {
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path has other methods."),
    413: ("too_large", "The body is too large."),
}
"""What Litestar itself refuses, a wrong media type apart; every other status under 500 is `bad_message`."""

_log = structlog.get_logger("smart_router.api")


class WrongMediaType(Refused):
    """The body is not said to be JSON."""

    def __init__(self) -> None:
        super().__init__("unsupported", "Send the body as application/json.")


def problem(error: RouterError, headers: dict[str, str] | None = None) -> Response[bytes]:
    """The answer that tells of `error`; `detail` and our `message` are the same text."""
    status = 415 if isinstance(error, WrongMediaType) else _STATUS.get(error.code, 400)
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": error.message}
    extra = {**SAFE_HEADERS, **(headers or {})}
    if status == HTTPStatus.UNAUTHORIZED:
        extra["www-authenticate"] = "Bearer"
    elif error.temporary:
        extra["retry-after"] = "1"
    return Response(
        msgspec.json.encode({**told, **error.as_dict()}),
        status_code=status,
        headers=extra,
        media_type="application/problem+json",
    )


def _of_ours(_request: Request[Any, Any, Any], error: RouterError) -> Response[bytes]:
    return problem(error)


def _of_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _of_anybody(request, error)
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    if error.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        return problem(WrongMediaType(), headers)
    code, text = _BY_STATUS.get(error.status_code, ("bad_message", _text(error)))
    return problem(Refused(code, text), headers)


def _of_deep_json(_request: Request[Any, Any, Any], _error: RecursionError) -> Response[bytes]:
    return problem(Refused("bad_message", "The body is nested too deeply."))


def _of_anybody(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("http_handler_failed", exc_info=error, path=request.scope["path"])
    return problem(Refused("internal_error", "The router failed on this request; its log says more."))


def _text(error: HTTPException) -> str:
    """The rules that the body breaks: msgspec names types and keys, never values."""
    extra = error.extra if isinstance(error.extra, list) else []
    reasons = [str(one["message"]) for one in extra if isinstance(one, dict) and "message" in one]
    return "; ".join(reasons) or "The body is not the JSON that is expected here."


EXCEPTION_HANDLERS: Final[dict[int | type[Exception], Any]] = {
    RouterError: _of_ours,
    HTTPException: _of_litestar,
    RecursionError: _of_deep_json,
    Exception: _of_anybody,
}
