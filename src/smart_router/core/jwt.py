"""JSON Web Tokens (RFC 7519): signature, times, audience and issuer checked; the claims are then to be believed.

An algorithm serves one kind of key: HS… the shared secret, all others the keys of the JWKS; `none` and what the token
itself offers as a key (`jwk`, `jku`, `x5c`, `x5u`) serve nothing (RFC 8725).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey
from joserfc.jws import JWSRegistry, deserialize_compact

from smart_router.clock import Clock
from smart_router.config.schema import AuthSettings
from smart_router.core.access import Identity, token_hash
from smart_router.core.jwks import Jwks
from smart_router.errors import ConfigError, Refused

__all__ = ["JwtVerifier"]

MIN_SECRET: Final = 32
MAX_NAME: Final = 512
"""Characters of `sub` and `jti`."""
MAX_TIME: Final = 2**53 // 1000

_WITH_SECRET: Final = frozenset({"HS256", "HS384", "HS512"})
_DEFAULT_WITH_SECRET: Final = frozenset({"HS256"})
_DEFAULT_WITH_KEYS: Final = frozenset({"RS256", "ES256", "EdDSA"})
_TYPES: Final = frozenset({"jwt", "at+jwt"})


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str = "JWT"
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _OneAlgorithm(JWSRegistry):
    """Offers exactly one algorithm. Unknown header parameters are passed over, as RFC 7515 section 4 wants."""

    max_header_length = 4096

    def __init__(self, name: str) -> None:
        super().__init__(algorithms=[name], strict_check_header=False)
        self._name = name

    def get_alg(self, name: str) -> Any:
        # The original warns of EdDSA, whose newer name (RFC 9864) few issuers write yet.
        if name != self._name:
            raise ValueError("another algorithm")
        return self.algorithms[name]


class JwtVerifier:
    """Built from `[auth]`. ConfigError: its settings contradict each other."""

    def __init__(self, settings: AuthSettings, clock: Clock) -> None:
        chosen = frozenset(settings.algorithms)
        problems = _problems(settings, chosen)
        if problems:
            raise ConfigError(problems)
        self._secret = _secret_key(settings.secret) if settings.secret is not None else None
        with_secret = chosen & _WITH_SECRET or _DEFAULT_WITH_SECRET if self._secret else frozenset[str]()
        with_keys = chosen - _WITH_SECRET or _DEFAULT_WITH_KEYS if settings.jwks else frozenset[str]()
        if "EdDSA" in with_keys:
            with_keys |= {"Ed25519"}
        self._jwks = Jwks(settings.jwks, clock, with_keys) if settings.jwks else None
        self._registries = {name: _OneAlgorithm(name) for name in with_secret | with_keys}
        self._audience = settings.audience
        self._issuer = settings.issuer
        self._leeway = int(settings.leeway * 1000)

    async def open(self) -> None:
        if self._jwks is not None:
            await self._jwks.open()

    async def close(self) -> None:
        if self._jwks is not None:
            await self._jwks.close()

    def verify(self, token: str, now_ms: int) -> Identity:
        """Refused `unauthorized` or `token_expired`; `busy` while there have never been keys to verify with."""
        header = _header(token)
        registry = self._registries.get(header.alg)
        if registry is None:
            raise _refused(
                f"is signed in a way that is not accepted here; accepted: {', '.join(sorted(self._registries))}"
            )
        key = self._key(header)
        try:
            payload = deserialize_compact(token, key, registry=registry).payload or b""
            claims = msgspec.json.decode(payload, type=dict[str, Any])
        except (JoseError, msgspec.DecodeError, ValueError, TypeError, ArithmeticError, RecursionError):
            # The cause may hold parts of the token: it goes no further.
            raise _refused("is not valid: its signature or form is wrong") from None
        return self._identity(token, claims, now_ms)

    def _key(self, header: _Header) -> Key:
        if header.alg in _WITH_SECRET:
            assert self._secret is not None
            return self._secret
        assert self._jwks is not None
        if not self._jwks.ready:
            raise Refused("busy", "The keys that verify tokens could not be fetched yet; try again in some seconds.")
        key = self._jwks.find(header.alg, header.kid)
        if key is None:
            raise _refused("is signed with an unknown key; if the key is new, try again in a minute")
        return key

    def _identity(self, token: str, claims: dict[str, Any], now_ms: int) -> Identity:
        expires_at = self._check_times(claims, now_ms)
        self._check_parties(claims)
        subject, jti, scope = claims.get("sub"), claims.get("jti"), claims.get("scope", "")
        if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_NAME:
            raise _refused(f"names no subject: `sub` must be 1 to {MAX_NAME} characters")
        if jti is not None and not (isinstance(jti, str) and 1 <= len(jti) <= MAX_NAME):
            raise _refused(f"has a wrong `jti`: 1 to {MAX_NAME} characters")
        if not isinstance(scope, str):
            raise _refused("has a wrong `scope`: words separated by spaces")
        return Identity(
            subject,
            claims,
            frozenset(scope.split()),
            token_hash(token),
            expires_at=expires_at,
            # An issuer's clock that is ahead must not outrun a revocation.
            issued_at=min(_milliseconds(claims, "iat") or 0, now_ms),
            jti=jti,
        )

    def _check_times(self, claims: dict[str, Any], now_ms: int) -> int | None:
        """When the token ends, leeway included; None: never."""
        expires, begins, issued = (_milliseconds(claims, name) for name in ("exp", "nbf", "iat"))
        if begins is not None and begins > now_ms + self._leeway:
            raise _refused("is not valid yet (`nbf`)")
        if issued is not None and issued > now_ms + self._leeway:
            raise _refused("comes from the future (`iat`)")
        if expires is None:
            return None
        if expires + self._leeway <= now_ms:
            raise Refused("token_expired", "The token has expired: get a new one.")
        return expires + self._leeway

    def _check_parties(self, claims: dict[str, Any]) -> None:
        """A token made for somebody else is refused even if no audience is configured (RFC 7519, 4.1.3)."""
        named = claims.get("aud")
        audiences = named if isinstance(named, list) else [] if named is None else [named]
        if self._audience is None and audiences:
            raise _refused("is made for an audience (`aud`), and this server is configured with none (auth.audience)")
        if self._audience is not None and self._audience not in audiences:
            raise _refused("is made for another audience (`aud`)")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise _refused("is from another issuer (`iss`)")


def _refused(what: str) -> Refused:
    return Refused("unauthorized", f"The token {what}.")


def _header(token: str) -> _Header:
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("is not known")
    try:
        # altchars and validate: the strict alphabet of RFC 4648 section 5.
        decoded = base64.b64decode(parts[0] + "=" * (-len(parts[0]) % 4), b"-_", validate=True)
        header = msgspec.json.decode(decoded, type=_Header)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise _refused("is not valid: its header cannot be read") from None
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise _refused("needs extensions that are not supported (`crit`, `b64`)")
    if header.typ.lower().removeprefix("application/") not in _TYPES:
        raise _refused("is of another type than JWT (`typ`)")
    return header


def _milliseconds(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise _refused(f"has a wrong `{name}`: seconds since 1970")
    return int(value * 1000)


def _secret_key(secret: str) -> Key:
    try:
        return OctKey.import_key(secret.encode())
    except ValueError:
        raise ConfigError(["auth.secret: this is a public key; name a key set in auth.jwks instead"]) from None


def _problems(settings: AuthSettings, chosen: frozenset[str]) -> list[str]:
    problems = []
    if settings.secret is not None and len(settings.secret.encode()) < MIN_SECRET:
        problems.append(f"auth.secret: at least {MIN_SECRET} bytes (RFC 7518, 3.2)")
    if settings.secret is not None and "BEGIN " in settings.secret:
        problems.append("auth.secret: this looks like a key file; name a key set in auth.jwks instead")
    if "none" in chosen:
        problems.append("auth.algorithms: `none` is never accepted")
    if chosen & _WITH_SECRET and settings.secret is None:
        problems.append("auth.algorithms: HS256, HS384 and HS512 need auth.secret")
    if chosen - _WITH_SECRET and not settings.jwks:
        problems.append("auth.algorithms: all but HS256, HS384 and HS512 need auth.jwks")
    if chosen and settings.secret is not None and not chosen & _WITH_SECRET:
        problems.append("auth.secret: none of auth.algorithms uses it")
    if chosen and settings.jwks and not chosen - _WITH_SECRET:
        problems.append("auth.jwks: none of auth.algorithms uses it")
    return problems
