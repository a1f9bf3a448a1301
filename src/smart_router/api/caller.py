"""Who calls: the bearer of a token with a scope, and no web page of somebody else's."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from smart_router.core.access import ADMIN, Identity
from smart_router.core.services import Core
from smart_router.errors import Refused

__all__ = ["MONITOR", "Callers"]

MONITOR: Final = "monitor"
"""The scope that metrics and checks ask for; `admin` has it too."""

_NOBODY: Final = "Authorization: Bearer … is needed, with a token that has the scope {}."


class Callers:
    """Without authentication everybody who reaches the port may call; the server then listens on loopback only."""

    def __init__(self, core: Core) -> None:
        self._authorizer = core.authorizer
        self._revocations = core.revocations
        self._clock = core.clock
        self._origins = frozenset(core.settings.server.origins)

    def administrator(self, request: Request[Any, Any, Any]) -> Identity:
        """Refused `unauthorized`, `token_expired`, `revoked`, or `forbidden` without the scope `admin`."""
        return self._with_scope(request, ADMIN)

    def monitor(self, request: Request[Any, Any, Any]) -> Identity:
        """As `administrator`, with the scope `monitor` or `admin`."""
        return self._with_scope(request, MONITOR, ADMIN)

    def anybody(self, request: Request[Any, Any, Any]) -> Identity:
        """Refused `unauthorized`, `token_expired` or `revoked`; what it may do is another question."""
        self._refuse_foreign_page(request)
        identity = self._authorizer.authenticate(_bearer(request), self._clock.wall_ms())
        if self._revocations.is_revoked(identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")
        return identity

    def _with_scope(self, request: Request[Any, Any, Any], *scopes: str) -> Identity:
        self._refuse_foreign_page(request)
        wanted = " or ".join(f"`{scope}`" for scope in scopes)
        token = _bearer(request)
        if self._authorizer.required and token is None:
            raise Refused("unauthorized", _NOBODY.format(wanted))
        identity = self._authorizer.authenticate(token, self._clock.wall_ms())
        if identity.scopes.isdisjoint(scopes):
            raise Refused("forbidden", f"This needs a token with the scope {wanted}.")
        return identity

    def _refuse_foreign_page(self, request: Request[Any, Any, Any]) -> None:
        """A page elsewhere may not make its reader's browser call us (CSRF): browsers then name another origin."""
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins:
            return
        own = request.headers.get("host", "").lower()
        if not own or origin.partition("://")[2].lower() != own:
            raise Refused("forbidden", "Web pages of another origin may not call this.")


def _bearer(request: Request[Any, Any, Any]) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None
