"""The public keys that verify tokens (RFC 7517), from a file or an http(s) address, kept fresh in the background.

open ─► load ──ok──► every 10 minutes, or when a token names an unknown key: at most once a minute
            └─fail─► the last good keys stay; tried again after 1 s, 2 s, 4 s … 60 s
"""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import Key, RSAKey, import_key

from smart_router.clock import Clock
from smart_router.errors import ConfigError

__all__ = ["Jwks", "PublicKey", "Refresh", "parse_keys"]

MAX_BYTES: Final = 262_144
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
SOCKET_TIMEOUT: Final = 5.0
TOTAL_TIMEOUT: Final = 15.0

_BY_CURVE: Final = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_log = structlog.get_logger("smart_router.access")


class PublicKey(NamedTuple):
    """A key and what it may verify. A key of one kind never serves an algorithm of another."""

    kid: str | None
    algorithms: frozenset[str]
    key: Key


class Refresh:
    """When to load again: monotonic seconds in and out."""

    def __init__(self, *, period: float = 600.0, minimum: float = 60.0) -> None:
        self._period = period
        self._minimum = minimum
        self._failures = 0
        self._last = float("-inf")
        self.due = float("-inf")

    def asked(self) -> None:
        """Somebody needs a key that is not there."""
        self.due = min(self.due, self._last + self._minimum)

    def loaded(self, now: float) -> None:
        self._failures = 0
        self._last = now
        self.due = now + self._period

    def failed(self, now: float) -> None:
        self._last = now
        self.due = now + min(self._minimum, 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)


class Jwks:
    """The keys at `location`, of the kinds that `algorithms` name. `find` never waits."""

    def __init__(
        self, location: str, clock: Clock, algorithms: Collection[str], *, refresh: Refresh | None = None
    ) -> None:
        self._location = location
        self._is_remote = location.startswith(("http://", "https://"))
        self._clock = clock
        self._algorithms = frozenset(algorithms)
        self._refresh = refresh or Refresh()
        self._keys: list[PublicKey] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """ConfigError for a file without usable keys. An address that does not answer yet is tried again meanwhile."""
        problem = await self._load()
        if problem is not None and not self._is_remote:
            raise ConfigError([f"auth.jwks: {problem}"])
        self._task = asyncio.create_task(self._keep_fresh(), name="jwks")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def ready(self) -> bool:
        """False until keys were loaded once."""
        return bool(self._keys)

    def find(self, algorithm: str, kid: str | None) -> Key | None:
        """The key to verify with. Without `kid` only one may fit; an unknown one is fetched for the next time."""
        fitting = [one for one in self._keys if algorithm in one.algorithms]
        if kid is None:
            return fitting[0].key if len(fitting) == 1 else None
        found = next((one.key for one in fitting if one.kid == kid), None)
        if found is None:
            self._refresh.asked()
            self._wake.set()
        return found

    async def _keep_fresh(self) -> None:
        while True:
            wait = self._refresh.due - self._clock.monotonic()
            if wait <= 0:
                await self._load()
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _load(self) -> str | None:
        """None, or why there are no new keys."""
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT):
                content = await asyncio.to_thread(_fetch if self._is_remote else _read, self._location)
            self._keys = parse_keys(content, self._algorithms)
        except (OSError, ValueError, TimeoutError) as error:
            problem = f"{_shown(self._location)}: {_reason(error)}"
            self._refresh.failed(self._clock.monotonic())
            _log.warning("jwks_unavailable", reason=problem, keys=len(self._keys))
            return problem
        self._refresh.loaded(self._clock.monotonic())
        return None


def parse_keys(content: bytes, algorithms: Collection[str]) -> list[PublicKey]:
    """The keys that can be used; secrets and keys of other kinds are passed over. ValueError when none is left."""
    try:
        listed = msgspec.json.decode(content, type=_Keys).keys
    except (msgspec.DecodeError, RecursionError):
        raise ValueError('not a key set: write {"keys": [...]} (RFC 7517)') from None
    keys = [key for key in (_usable(each, frozenset(algorithms)) for each in listed[:MAX_KEYS]) if key is not None]
    if not keys:
        raise ValueError(f"no key that verifies any of {', '.join(sorted(algorithms))}")
    return keys


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


def _usable(data: dict[str, Any], allowed: frozenset[str]) -> PublicKey | None:
    kid, named, operations = data.get("kid"), data.get("alg"), data.get("key_ops")
    fits = _RSA if data.get("kty") == "RSA" else _BY_CURVE.get(str(data.get("crv")), ())
    algorithms = allowed.intersection(fits, fits if named is None else (str(named),))
    for_signatures = data.get("use", "sig") == "sig" and (operations is None or "verify" in str(operations))
    if not algorithms or not for_signatures or data.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        key = import_key({name: data[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in data})
    except (JoseError, ValueError, TypeError, ArithmeticError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS:
        return None
    return PublicKey(kid if isinstance(kid, str) else None, algorithms, key)


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return _bounded(file.read(MAX_BYTES + 1))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An address that sends elsewhere is a mistake to correct, not a way to reach other schemes and hosts."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - http(s) only, see Jwks
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=SOCKET_TIMEOUT) as response:
        return _bounded(response.read(MAX_BYTES + 1))


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    return content


def _shown(location: str) -> str:
    """Without what may be a credential: user, password and query of an address."""
    parts = urlsplit(location)
    if parts.scheme not in ("http", "https"):
        return location
    return f"{parts.scheme}://{parts.hostname or ''}{':' + str(parts.port) if parts.port else ''}{parts.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the answer was {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection ({error.reason})"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or "no answer in time"
