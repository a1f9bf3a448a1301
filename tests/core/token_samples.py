"""Tokens good and bad, made with joserfc or by hand, for the tests of tokens and for those of the gateways (A1)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from smart_router.config.schema import AuthSettings, TokenSettings
from smart_router.config.server import Algorithm

__all__ = [
    "AUDIENCE",
    "CLAIMS",
    "ISSUER",
    "NOW_MS",
    "SECRET",
    "STATIC",
    "Keys",
    "Sample",
    "by_hand",
    "samples",
    "settings",
    "sign",
]

NOW_MS = 1_800_000_000_000
NOW = NOW_MS // 1000
SECRET = "a-shared-secret-of-more-than-32-bytes-for-tests"
STATIC = "static-token-of-the-bot-0123456789"
AUDIENCE = "router"
ISSUER = "https://issuer.example"
CLAIMS: Mapping[str, Any] = {
    "sub": "alice",
    "aud": AUDIENCE,
    "iss": ISSUER,
    "iat": NOW - 10,
    "exp": NOW + 3600,
    "scope": "chat admin",
    "jti": "token-1",
}
EVERY_ALGORITHM = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
EVERY_ALGORITHM += ["ES256", "ES384", "ES512", "EdDSA"]


class Sample(NamedTuple):
    """`code`: of the refusal, None for a token that is good. `says`: what its text says."""

    name: str
    token: Any
    code: str | None = "unauthorized"
    says: str = ""


class Keys:
    """A key pair of each kind; `jwks` holds the public halves."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec"})
        self.ec384 = ECKey.generate_key("P-384", {"kid": "ec384"})
        self.ec521 = ECKey.generate_key("P-521", {"kid": "ec521"})
        self.okp = OKPKey.generate_key("Ed25519", {"kid": "okp"})
        self.other_rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
        self.secret = OctKey.import_key(SECRET)

    @property
    def jwks(self) -> bytes:
        public = [key.as_dict(private=False) for key in (self.rsa, self.ec, self.ec384, self.ec521, self.okp)]
        return json.dumps({"keys": public}).encode()

    def of(self, algorithm: str) -> Key:
        if algorithm.startswith("HS"):
            return self.secret
        by_name: dict[str, Key] = {
            "ES256": self.ec,
            "ES384": self.ec384,
            "ES512": self.ec521,
            "EdDSA": self.okp,
            "Ed25519": self.okp,
        }
        return by_name.get(algorithm, self.rsa)


class _Every(JWSRegistry):
    """Signs with whatever is asked for, without a warning."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


def settings(jwks: str | None) -> AuthSettings:
    """Everything at once: a shared secret, a key set and a static token."""
    return AuthSettings(
        secret=SECRET,
        jwks=jwks,
        algorithms=msgspec.convert(EVERY_ALGORITHM if jwks else EVERY_ALGORITHM[:3], list[Algorithm]),
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=2.0,
        tokens=[TokenSettings(token=STATIC, subject="bot", scope="chat", claims={"actors": ["agent/456/*"]})],
    )


def sign(key: Key, algorithm: str, claims: Mapping[str, Any] = CLAIMS, **header: Any) -> str:
    kid = {} if isinstance(key, OctKey) else {"kid": key.kid}
    return jwt.encode(
        {"alg": algorithm, **kid, **header}, dict(claims), key, registry=_Every(strict_check_header=False)
    )


def _segment(value: object) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def by_hand(header: object, payload: object, secret: bytes = SECRET.encode()) -> str:
    """Signed with HMAC-SHA-256 whatever the header says; header and payload may be anything, bytes as they are."""
    signed = f"{_segment(header)}.{_segment(payload)}"
    return f"{signed}.{_segment(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def samples(keys: Keys) -> list[Sample]:
    return [*_good(keys), *_forged(keys), *_wrong_claims(keys), *_garbage(keys)]


def _good(keys: Keys) -> list[Sample]:
    good = [Sample(f"good {name}", sign(keys.of(name), name), None) for name in (*EVERY_ALGORITHM, "Ed25519")]
    within = {**CLAIMS, "exp": NOW - 1, "nbf": NOW + 1, "iat": NOW + 1}
    return [
        *good,
        Sample("static", STATIC, None),
        Sample("within the leeway", sign(keys.secret, "HS256", within), None),
        Sample("audience in a list", sign(keys.secret, "HS256", {**CLAIMS, "aud": ["x", AUDIENCE]}), None),
        Sample("times with a fraction", sign(keys.secret, "HS256", {**CLAIMS, "exp": NOW + 0.5}), None),
        Sample("typ at+jwt", sign(keys.secret, "HS256", typ="at+JWT"), None),
        Sample("an unknown header parameter", sign(keys.secret, "HS256", x="y"), None),
    ]


def _forged(keys: Keys) -> list[Sample]:
    good = sign(keys.secret, "HS256")
    head, payload, signature = good.split(".")
    pem = keys.rsa.as_pem(private=False)
    attacker = OctKey.import_key("the-attackers-own-secret-0123456789abcdef")
    none = _segment({"alg": "none", "typ": "JWT"})
    flipped = _segment(json.dumps({**CLAIMS, "sub": "mallory"}).encode())
    return [
        Sample("alg none, no signature", f"{none}.{payload}.", says="not accepted here; accepted: ES256"),
        Sample("alg none, with signature", f"{none}.{payload}.{signature}"),
        Sample("alg None", f"{_segment({'alg': 'None'})}.{payload}."),
        Sample("alg NONE", f"{_segment({'alg': 'NONE'})}.{payload}."),
        Sample("signature missing", f"{head}.{payload}."),
        Sample("signature cut", good[:-3]),
        Sample("signature changed", f"{head}.{payload}.{signature[:-6]}AAAAAA"),
        Sample("payload changed", f"{head}.{flipped}.{signature}"),
        Sample("another secret", sign(attacker, "HS256")),
        Sample("another RSA key with a known kid", sign(keys.other_rsa, "RS256")),
        Sample("unknown kid", sign(keys.rsa, "RS256", kid="nobody"), says="unknown key"),
        Sample("kid of another kind of key", sign(keys.rsa, "RS256", kid="ec"), says="unknown key"),
        Sample("no kid where several fit", by_hand({"alg": "ES256"}, CLAIMS)),
        Sample("HS256 with the RSA public key as secret", by_hand({"alg": "HS256"}, CLAIMS, pem)),
        Sample("HS256 with the RSA public key and its kid", by_hand({"alg": "HS256", "kid": "rsa"}, CLAIMS, pem)),
        Sample("HMAC called RS256", by_hand({"alg": "RS256", "kid": "rsa"}, CLAIMS, pem)),
        Sample("HMAC with an empty secret", by_hand({"alg": "HS256"}, CLAIMS, b"")),
        Sample("ES384 with the P-256 key", by_hand({"alg": "ES384", "kid": "ec"}, CLAIMS)),
        Sample("ES256 of zeros", f"{_segment({'alg': 'ES256', 'kid': 'ec'})}.{payload}.{_segment(bytes(64))}"),
        Sample("ES256K", by_hand({"alg": "ES256K"}, CLAIMS), says="not accepted"),
        Sample("HS256 by lower-case name", by_hand({"alg": "hs256"}, CLAIMS)),
        Sample("own key in the header", sign(attacker, "HS256", jwk=attacker.as_dict())),
        Sample("key address in the header", sign(attacker, "HS256", jku="https://attacker.example/jwks")),
        Sample("crit", by_hand({"alg": "HS256", "crit": ["b64"], "b64": False}, CLAIMS), says="crit"),
        Sample("b64 alone", by_hand({"alg": "HS256", "b64": True}, CLAIMS), says="b64"),
        Sample("another type of token", by_hand({"alg": "HS256", "typ": "logout+jwt"}, CLAIMS), says="typ"),
    ]


def _wrong_claims(keys: Keys) -> list[Sample]:
    def made(name: str, says: str, code: str = "unauthorized", **claims: Any) -> Sample:
        # What is None is left out.
        kept = {key: value for key, value in {**CLAIMS, **claims}.items() if value is not None}
        return Sample(name, sign(keys.secret, "HS256", kept), code, says)

    return [
        made("expired", "expired", "token_expired", exp=NOW - 2),
        made("expired long ago", "expired", "token_expired", exp=1),
        made("not valid yet", "not valid yet", nbf=NOW + 3),
        made("from the future", "future", iat=NOW + 3),
        made("exp as text", "`exp`", exp="never"),
        made("exp true", "`exp`", exp=True),
        made("exp negative", "`exp`", exp=-1),
        made("exp beyond all years", "`exp`", exp=10**18),
        Sample("exp infinite", by_hand({"alg": "HS256"}, b'{"sub":"a","exp":1e999}')),
        Sample("exp NaN", by_hand({"alg": "HS256"}, b'{"sub":"a","exp":NaN}')),
        made("another audience", "audience", aud="somebody else"),
        made("another audience in a list", "audience", aud=["somebody", "else"]),
        made("audience of a wrong type", "audience", aud={AUDIENCE: 1}),
        made("no audience", "audience", aud=None),
        made("another issuer", "issuer", iss="https://issuer.example.attacker.example"),
        made("no issuer", "issuer", iss=None),
        made("no subject", "`sub`", sub=None),
        made("empty subject", "`sub`", sub=""),
        made("subject of a wrong type", "`sub`", sub=["alice"]),
        made("subject too long", "`sub`", sub="x" * 513),
        made("jti of a wrong type", "`jti`", jti=5),
        made("scope of a wrong type", "`scope`", scope=["admin"]),
        Sample("claims are a list", by_hand({"alg": "HS256"}, [CLAIMS])),
        Sample("claims are no JSON", by_hand({"alg": "HS256"}, b"{")),
        Sample("claims nested too deep", by_hand({"alg": "HS256"}, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")),
        Sample("lone surrogate in the subject", by_hand({"alg": "HS256"}, b'{"sub":"\\ud800"}')),
    ]


def _garbage(keys: Keys) -> list[Sample]:
    good = sign(keys.secret, "HS256")
    return [
        Sample("nothing", None, says="token is needed"),
        Sample("empty", "", says="token is needed"),
        Sample("a number", 5, says="must be text"),
        Sample("an object", {"token": good}),
        Sample("words", "let me in please"),
        Sample("two dots", ".."),
        Sample("four parts", f"{good}.x"),
        Sample("five parts, as encrypted ones have", "a.b.c.d.e"),
        Sample("header no base64", "*.e30.x"),
        Sample("header no object", by_hand("HS256", CLAIMS)),
        Sample("header without alg", by_hand({}, CLAIMS)),
        Sample("alg of a wrong type", by_hand({"alg": ["HS256"]}, CLAIMS)),
        Sample("kid of a wrong type", by_hand({"alg": "HS256", "kid": {}}, CLAIMS)),
        Sample("header nested too deep", by_hand(b'{"alg":' + b"[" * 2500, CLAIMS)),
        Sample("space before", f" {good}"),
        Sample("newline after", f"{good}\n"),
        Sample("standard base64 signature", f"{good[:-4]}+/+/"),
        Sample("not ASCII", f"{good[:-1]}é"),
        Sample("lone surrogate", f"{good[:-1]}\ud800"),
        Sample("NUL", f"{good}\x00"),
        Sample("huge", "x" * 10_000_000, says="at most 8192"),
        Sample("huge payload", sign(keys.secret, "HS256", {**CLAIMS, "x": "y" * 9_000}), says="at most 8192"),
        Sample("static token cut", STATIC[:-1]),
        Sample("static token and more", STATIC + "0"),
        Sample("static token in capitals", STATIC.upper()),
        Sample("the secret itself", SECRET),
    ]
