"""POST /revocations: a subject's tokens, or one token, void from now on."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import structlog
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from smart_router.api.caller import Callers
from smart_router.api.problems import WrongMediaType
from smart_router.core.services import Core

__all__ = ["NewRevocation", "RevocationMade", "revocation_routes"]

_log = structlog.get_logger("smart_router.audit")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class NewRevocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of `subject` (tokens issued until now) and `jti` (one token).

    `expires_at`: ms since 1970 UTC after which the tokens meant have expired by themselves; 0: remember for ever.
    """

    subject: Name | None = None
    jti: Name | None = None
    expires_at: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] = 0


class RevocationMade(msgspec.Struct, frozen=True, omit_defaults=True):
    """As it is in force. `at`: tokens of the subject issued up to then are void; ms since 1970 UTC."""

    at: int
    subject: str | None = None
    jti: str | None = None
    expires_at: int = 0


def revocation_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    @post("/revocations", status_code=201, security=[{"token": []}])
    async def revoke(request: Request[Any, Any, Any], data: JSONBody[NewRevocation]) -> RevocationMade:
        """Revokes: on disk and in force when answered, live sessions are cut, mailboxes stay.

        Where authentication is on, the token needs the scope `admin`.
        """
        identity = callers.administrator(request)
        if request.content_type[0] != "application/json":
            raise WrongMediaType
        made = await core.revocations.revoke(subject=data.subject, jti=data.jti, expires_at=data.expires_at)
        _log.info("revocation_added", by=identity.subject, subject=made.subject, jti=made.jti, until=made.expires_at)
        return RevocationMade(made.at, made.subject, made.jti, made.expires_at)

    return [revoke]
