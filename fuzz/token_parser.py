"""Fuzz target 11: tokens, as they come and signed with the right secret.

    .venv/bin/python -m fuzz.token_parser [-max_total_time=60]      with atheris, if it is installed
    .venv/bin/python -m fuzz.token_parser [examples]                without it: Hypothesis

An input with a byte 0xFF is a header and claims, which are signed: so what lies behind the signature is reached too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from smart_router.clock import SystemClock
from smart_router.config.schema import AuthSettings, TokenSettings
from smart_router.core.access import Identity
from smart_router.core.jwt import JwtVerifier
from smart_router.core.tokens import MAX_TOKEN, StaticTokens
from smart_router.errors import Refused

__all__ = ["INPUTS", "one_input"]

NOW_MS = 1_800_000_000_000
SECRET = "the-secret-that-fuzzed-tokens-are-signed-with"

VERIFIER = JwtVerifier(AuthSettings(secret=SECRET, audience="router", issuer="i", leeway=1.0), SystemClock())
STATIC = StaticTokens([TokenSettings(token="a-static-token-0123456789", subject="bot")])

HEADERS = st.sampled_from(
    [b'{"alg":"HS256"}', b'{"alg":"HS256","typ":"at+jwt"}', b'{"alg":"none"}', b'{"alg":"HS256","kid":1}', b"{}"]
)
VALUES = st.sampled_from(
    [
        '"router"',
        '["router"]',
        '"i"',
        "1800000000",
        "1800000060.5",
        "1e308",
        "-1",
        "true",
        "null",
        '"\\u0000"',
        "{}",
        "[]",
    ]
)
NAMES = st.sampled_from(["sub", "aud", "iss", "exp", "nbf", "iat", "jti", "scope", "actors"])
CLAIMS = st.dictionaries(NAMES, VALUES, max_size=9).map(
    lambda claims: ("{" + ",".join(f'"{name}":{value}' for name, value in claims.items()) + "}").encode()
)
INPUTS = (
    st.binary(max_size=300)
    | st.text("eyJhbGciOi.-_=", max_size=200).map(str.encode)
    | st.builds(lambda header, claims: header + b"\xff" + claims, HEADERS | st.binary(max_size=40), CLAIMS)
)


def one_input(data: bytes) -> None:
    """Whatever the bytes are, it is refused, or it was signed and names its subject."""
    header, signed, claims = data.partition(b"\xff")
    token = _sign(header, claims) if signed else data.decode("utf-8", "surrogateescape")[:MAX_TOKEN]
    assert STATIC.find(token) is None
    outcome = _verify(token)
    if isinstance(outcome, Refused):
        assert outcome.code in ("unauthorized", "token_expired")
        assert SECRET not in outcome.message
        assert token not in outcome.message or len(token) < 16
        return
    assert signed
    assert 1 <= len(outcome.subject) <= 512
    assert outcome.issued_at <= NOW_MS
    assert outcome.expires_at is None or outcome.expires_at > NOW_MS


def _verify(token: str) -> Identity | Refused:
    try:
        return VERIFIER.verify(token, NOW_MS)
    except Refused as error:
        return error


def _sign(header: bytes, claims: bytes) -> str:
    text = f"{_segment(header)}.{_segment(claims)}"
    return f"{text}.{_segment(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))}"


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


if __name__ == "__main__":
    run(one_input, INPUTS)
