"""Tokens: the good are known, all others refused, and nothing secret is ever said."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from smart_router.clock import SystemClock
from smart_router.config.schema import AuthSettings, TokenSettings
from smart_router.core.access import Identity, NoAuthorizer, same_token, token_hash
from smart_router.core.jwt import JwtVerifier
from smart_router.core.revocations import Revocations
from smart_router.core.tokens import StaticTokens, TokenAuthorizer, make_authorizer
from smart_router.errors import ConfigError, Refused
from smart_router.stores.base import Revocation
from tests.core.token_samples import CLAIMS, NOW_MS, SECRET, STATIC, Keys, Sample, by_hand, samples, settings, sign

KEYS = Keys()
SAMPLES = samples(KEYS)


class NoStore:
    """A store that remembers nothing."""

    async def add_revocation(self, revocation: Revocation) -> None: ...

    async def revocations(self) -> list[Revocation]:
        return []

    async def trim_revocations(self, now: int) -> int:
        return 0


def make_revocations() -> Revocations:
    return Revocations(NoStore(), SystemClock())


def authenticate(authorizer: TokenAuthorizer, token: object) -> Identity | Refused:
    try:
        return authorizer.authenticate(token, NOW_MS)
    except Refused as error:
        return error


@pytest.fixture
async def authorizer(tmp_path: Path) -> AsyncIterator[TokenAuthorizer]:
    (tmp_path / "jwks.json").write_bytes(KEYS.jwks)
    authorizer = TokenAuthorizer(settings(str(tmp_path / "jwks.json")), make_revocations(), SystemClock())
    await authorizer.open()
    yield authorizer
    await authorizer.close()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_every_sample(authorizer: TokenAuthorizer, sample: Sample) -> None:
    if sample.code is None:
        assert authorizer.authenticate(sample.token, NOW_MS).subject in ("alice", "bot")
        return
    with pytest.raises(Refused) as refused:
        authorizer.authenticate(sample.token, NOW_MS)
    assert refused.value.code == sample.code
    assert sample.says in refused.value.message


def test_there_are_as_many_samples_as_a1_wants() -> None:
    assert len([one for one in SAMPLES if one.code]) >= 40
    assert len({one.name for one in SAMPLES}) == len(SAMPLES)


async def test_nothing_secret_is_said(authorizer: TokenAuthorizer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        for sample in SAMPLES:
            outcome = authenticate(authorizer, sample.token)
            said = f"{authorizer!r} {outcome!r}"
            if isinstance(outcome, Refused):
                said += f"{outcome.as_dict()} {outcome.__cause__!r}"
                assert outcome.__suppress_context__ or outcome.__context__ is None
            secrets = [SECRET, STATIC, *(sample.token.split(".") if isinstance(sample.token, str) else [])]
            for secret in secrets:
                assert len(secret) < 8 or secret not in said, sample.name
    assert SECRET not in f"{logs} {caplog.text}"
    assert STATIC not in f"{logs} {caplog.text}"


async def test_what_an_identity_says(authorizer: TokenAuthorizer) -> None:
    token = sign(KEYS.rsa, "RS256")
    identity = authorizer.authenticate(token, NOW_MS)
    assert (identity.subject, identity.jti, identity.is_admin) == ("alice", "token-1", True)
    assert identity.scopes == {"chat", "admin"}
    assert identity.claims == CLAIMS
    assert identity.issued_at == NOW_MS - 10_000
    assert identity.expires_at == NOW_MS + 3_600_000 + 2_000, "the leeway is time in which the token is good"
    assert same_token(identity.token_hash, token)
    assert not same_token(identity.token_hash, sign(KEYS.ec, "ES256"))
    assert not same_token(identity.token_hash, None)


async def test_a_static_token(authorizer: TokenAuthorizer) -> None:
    identity = authorizer.authenticate(STATIC, NOW_MS)
    assert (identity.subject, identity.expires_at, identity.issued_at) == ("bot", None, 0)
    assert identity.scopes == {"chat"}
    assert identity.claims == {"actors": ["agent/456/*"]}
    assert not identity.is_admin


async def test_a_token_may_leave_out_its_times(authorizer: TokenAuthorizer) -> None:
    timeless = {name: value for name, value in CLAIMS.items() if name not in ("exp", "iat", "jti", "scope")}
    identity = authorizer.authenticate(sign(KEYS.secret, "HS256", timeless), NOW_MS)
    assert (identity.expires_at, identity.issued_at, identity.jti, identity.scopes) == (None, 0, None, frozenset())


async def test_an_issuers_clock_that_is_ahead_does_not_outrun_a_revocation(authorizer: TokenAuthorizer) -> None:
    ahead = {**CLAIMS, "iat": NOW_MS // 1000 + 2}
    assert authorizer.authenticate(sign(KEYS.secret, "HS256", ahead), NOW_MS).issued_at == NOW_MS


async def test_the_moment_of_expiry(authorizer: TokenAuthorizer) -> None:
    token = sign(KEYS.secret, "HS256")
    end = authorizer.authenticate(token, NOW_MS).expires_at
    assert end is not None
    authorizer.authenticate(token, end - 1)
    with pytest.raises(Refused, match="expired"):
        authorizer.authenticate(token, end)


async def test_a_revoked_token() -> None:
    revocations = make_revocations()
    authorizer = TokenAuthorizer(settings(None), revocations, SystemClock())
    await authorizer.open()
    token = sign(KEYS.secret, "HS256")
    await revocations.revoke(jti="token-1")
    with pytest.raises(Refused) as refused:
        authorizer.authenticate(token, NOW_MS)
    assert refused.value.code == "revoked"
    authorizer.authenticate(STATIC, NOW_MS)
    await revocations.revoke(subject="bot")
    with pytest.raises(Refused, match="revoked"):
        authorizer.authenticate(STATIC, NOW_MS)


async def test_a_token_for_an_audience_where_none_is_configured() -> None:
    authorizer = TokenAuthorizer(AuthSettings(secret=SECRET), make_revocations(), SystemClock())
    with pytest.raises(Refused, match=r"auth\.audience"):
        authorizer.authenticate(sign(KEYS.secret, "HS256"), NOW_MS)
    authorizer.authenticate(sign(KEYS.secret, "HS256", {"sub": "alice"}), NOW_MS)


@pytest.mark.parametrize(
    ("chosen", "algorithm", "accepted"),
    [([], "HS256", True), ([], "HS512", False), (["HS512"], "HS512", True), (["HS512"], "HS256", False)],
)
async def test_only_the_algorithms_that_are_configured(chosen: list[str], algorithm: str, accepted: bool) -> None:
    configured = msgspec.convert({"secret": SECRET, "algorithms": chosen}, AuthSettings)
    authorizer = TokenAuthorizer(configured, make_revocations(), SystemClock())
    token = sign(KEYS.secret, algorithm, {"sub": "alice"})
    if accepted:
        assert authorizer.authenticate(token, NOW_MS).subject == "alice"
    else:
        with pytest.raises(Refused, match="not accepted"):
            authorizer.authenticate(token, NOW_MS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"secret": "short"}, "at least 32 bytes"),
        ({"secret": KEYS.rsa.as_pem(private=False).decode()}, r"auth\.jwks"),
        ({"secret": SECRET, "algorithms": ["none"]}, "`none` is never accepted"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, r"need auth\.jwks"),
        ({"jwks": "x.json", "algorithms": ["HS256"]}, r"need auth\.secret"),
        ({"jwks": "x.json", "secret": SECRET, "algorithms": ["HS256"]}, r"auth\.jwks: none of"),
        ({"jwks": "x.json", "secret": SECRET, "algorithms": ["RS256"]}, r"auth\.secret: none of"),
    ],
    ids=["short", "public key", "none", "RS256 without jwks", "HS256 without secret", "jwks unused", "secret unused"],
)
def test_settings_that_contradict_each_other(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        JwtVerifier(AuthSettings(**wrong), SystemClock())
    assert SECRET not in str(error.value)


def test_what_the_settings_ask_for() -> None:
    revocations = make_revocations()
    assert isinstance(make_authorizer(AuthSettings(), revocations, SystemClock()), NoAuthorizer)
    with_token = AuthSettings(tokens=[TokenSettings(token=STATIC, subject="bot")])
    authorizer = make_authorizer(with_token, revocations, SystemClock())
    assert authorizer.required
    with pytest.raises(Refused, match="not known"):
        authorizer.authenticate(sign(KEYS.secret, "HS256"), NOW_MS)


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(settings("https://user:password@issuer.example/jwks"))
    assert shown == "AuthSettings(secret=…, jwks=…, tokens=…)"
    assert repr(settings(None).tokens) == "[TokenSettings(token=…, subject='bot', scope='chat')]"


def test_only_the_hash_of_a_static_token_is_kept() -> None:
    tokens = StaticTokens([TokenSettings(token=STATIC, subject="bot"), TokenSettings(token="x" * 16, subject="x")])
    found = tokens.find(STATIC)
    assert isinstance(found, Identity)
    assert found.token_hash == token_hash(STATIC)
    assert STATIC not in str(vars(tokens))


@given(st.one_of(st.text(), st.none(), st.binary(), st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True)))
def test_arbitrary_tokens_are_refused(token: object) -> None:
    with pytest.raises(Refused) as refused:
        SHARED.authenticate(token, NOW_MS)
    assert refused.value.code == "unauthorized"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(["HS256", "HS512", "none", "RS256"]) | JSON},
    optional={name: JSON for name in ("kid", "typ", "crit", "b64", "jwk", "x5c", "zip", "enc")},
)
PAYLOADS = st.fixed_dictionaries({}, optional={name: JSON for name in (*CLAIMS, "nbf")})


@given(HEADERS | JSON, PAYLOADS | JSON, st.sampled_from([SECRET.encode(), b"another"]))
def test_signed_nonsense_is_refused_or_understood(header: object, payload: object, secret: bytes) -> None:
    outcome = authenticate(SHARED, by_hand(header, payload, secret))
    if isinstance(outcome, Identity):
        assert secret == SECRET.encode()
        assert isinstance(payload, dict)
        assert outcome.subject == payload["sub"]


SHARED = TokenAuthorizer(settings(None), make_revocations(), SystemClock())
