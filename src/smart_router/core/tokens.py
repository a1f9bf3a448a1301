"""Authentication by token: JSON Web Tokens and static ones, minus those revoked."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from smart_router.clock import Clock
from smart_router.config.schema import AuthSettings, TokenSettings
from smart_router.core.access import Authorizer, Identity, NoAuthorizer, token_hash
from smart_router.core.jwt import JwtVerifier
from smart_router.core.revocations import Revocations
from smart_router.errors import Refused

__all__ = ["MAX_TOKEN", "StaticTokens", "TokenAuthorizer", "make_authorizer"]

MAX_TOKEN: Final = 8192
"""Characters of a token that are looked at; a request head is 16 KiB at most."""


def make_authorizer(settings: AuthSettings, revocations: Revocations, clock: Clock) -> Authorizer:
    """What `[auth]` asks for; NoAuthorizer when nothing. ConfigError: settings that contradict each other."""
    return TokenAuthorizer(settings, revocations, clock) if settings.enabled else NoAuthorizer()


class StaticTokens:
    """Tokens from the settings. Only their hashes are kept, and all of them are compared each time."""

    def __init__(self, tokens: Sequence[TokenSettings]) -> None:
        self._identities = [
            Identity(one.subject, {**one.claims}, frozenset(one.scope.split()), token_hash(one.token)) for one in tokens
        ]

    def find(self, token: str) -> Identity | None:
        wanted = token_hash(token)
        found = None
        for identity in self._identities:
            if hmac.compare_digest(identity.token_hash, wanted):
                found = identity
        return found


class TokenAuthorizer:
    """Everybody needs a token. One that is not static must be a JWT."""

    required = True

    def __init__(self, settings: AuthSettings, revocations: Revocations, clock: Clock) -> None:
        self._static = StaticTokens(settings.tokens)
        self._jwt = JwtVerifier(settings, clock) if settings.secret is not None or settings.jwks else None
        self._revocations = revocations

    async def open(self) -> None:
        if self._jwt is not None:
            await self._jwt.open()

    async def close(self) -> None:
        if self._jwt is not None:
            await self._jwt.close()

    def authenticate(self, token: object, now_ms: int) -> Identity:
        if token is None or token == "":
            raise Refused(
                "unauthorized", "A token is needed: `token` of the auth object, or `Authorization: Bearer …`."
            )
        if not isinstance(token, str) or len(token) > MAX_TOKEN:
            raise Refused("unauthorized", f"The token must be text of at most {MAX_TOKEN} characters.")
        identity = self._static.find(token) or self._verify(token, now_ms)
        if self._revocations.is_revoked(identity):
            raise Refused("revoked", "This token has been revoked: get a new one.")
        return identity

    def _verify(self, token: str, now_ms: int) -> Identity:
        if self._jwt is None:
            raise Refused("unauthorized", "The token is not known.")
        return self._jwt.verify(token, now_ms)
