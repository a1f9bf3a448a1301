"""Key sets: only what can verify is taken, kept fresh, never given up for nothing."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OctKey, RSAKey
from structlog.testing import capture_logs

from smart_router.clock import SystemClock
from smart_router.config.schema import AuthSettings
from smart_router.core.jwks import MAX_BYTES, Jwks, Refresh, parse_keys
from smart_router.core.jwt import JwtVerifier
from smart_router.errors import ConfigError, Refused
from tests.core.token_samples import NOW_MS, Keys, sign

KEYS = Keys()
ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
AT_ONCE = {"period": 3600.0, "minimum": 0.0}


class KeyServer:
    """Answers on 127.0.0.1 with `body` and `status`; `asked` counts."""

    def __init__(self) -> None:
        self.body = KEYS.jwks
        self.status = 200
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.stop()


@pytest.fixture
async def jwks(server: KeyServer) -> AsyncIterator[Jwks]:
    jwks = Jwks(server.url, SystemClock(), ALL, refresh=Refresh(**AT_ONCE))
    yield jwks
    await jwks.close()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the others go on until it holds; the test's time limit is the deadline."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread and tells nobody
        await asyncio.sleep(0)


async def found(jwks: Jwks, algorithm: str, kid: str) -> None:
    await until(lambda: jwks.find(algorithm, kid) is not None)


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def public(key: Any, **changes: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), **changes}


async def test_keys_from_an_address(server: KeyServer, jwks: Jwks) -> None:
    await jwks.open()
    assert jwks.ready
    assert jwks.find("RS256", "rsa") is not None
    assert jwks.find("ES256", "rsa") is None
    assert jwks.find("ES256", None) is not None, "only one fits"


async def test_an_unknown_key_is_fetched_for_next_time(server: KeyServer, jwks: Jwks) -> None:
    await jwks.open()
    new = RSAKey.generate_key(2048, {"kid": "new"})
    server.body = key_set(public(new))
    assert jwks.find("RS256", "new") is None
    await found(jwks, "RS256", "new")
    assert jwks.find("RS256", "rsa") is None


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (404, b"{}"), (302, b""), (200, b"<html>"), (200, b'{"keys": []}'), (200, b" " * (MAX_BYTES + 1))],
)
async def test_the_last_good_keys_stay(server: KeyServer, jwks: Jwks, status: int, body: bytes) -> None:
    await jwks.open()
    server.status, server.body, before = status, body, server.asked
    with capture_logs() as logs:
        jwks.find("RS256", "unknown")
        await until(lambda: server.asked > before and bool(logs))
    assert jwks.find("RS256", "rsa") is not None
    assert logs[0]["event"] == "jwks_unavailable"


async def test_an_address_that_does_not_answer_yet_is_tried_again(server: KeyServer, jwks: Jwks) -> None:
    server.status = 503
    with capture_logs():
        await jwks.open()
        assert not jwks.ready
        server.status = 200
        await found(jwks, "RS256", "rsa")


async def test_without_keys_yet_a_token_may_be_tried_again(server: KeyServer) -> None:
    server.status = 503
    verifier = JwtVerifier(AuthSettings(jwks=server.url), SystemClock())
    with capture_logs() as logs:
        await verifier.open()
    with pytest.raises(Refused) as refused:
        verifier.verify(sign(KEYS.rsa, "RS256"), NOW_MS)
    assert (refused.value.code, refused.value.temporary) == ("busy", True)
    await verifier.close()
    assert "the answer was 503" in logs[0]["reason"]


async def test_no_credential_of_the_address_is_logged() -> None:
    jwks = Jwks("http://user:very-secret@127.0.0.1:9/jwks?key=very-secret", SystemClock(), ALL)
    with capture_logs() as logs:
        await jwks.open()
    await jwks.close()
    assert "http://127.0.0.1:9/jwks: no connection" in logs[0]["reason"]
    assert "very-secret" not in str(logs)


async def test_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(KEYS.jwks)
    jwks = Jwks(str(file), SystemClock(), ALL, refresh=Refresh(**AT_ONCE))
    await jwks.open()
    new = RSAKey.generate_key(2048, {"kid": "new"})
    file.write_bytes(key_set(public(new)))
    await found(jwks, "RS256", "new")
    await jwks.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "not a key set"), (b"[" * 100_000, "not a key set"), (b'{"keys": []}', "no key")],
)
async def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_bytes(content)
    with capture_logs(), pytest.raises(ConfigError, match=rf"auth\.jwks: .*jwks\.json: {says}"):
        await Jwks(str(file), SystemClock(), ALL).open()


@pytest.mark.parametrize(
    "useless",
    [
        OctKey.generate_key(256).as_dict(),
        public(KEYS.rsa, use="enc"),
        public(KEYS.rsa, alg="HS256"),
        public(KEYS.rsa, alg="RSA-OAEP"),
        public(KEYS.rsa, key_ops=["encrypt"]),
        public(KEYS.rsa, kty="oct"),
        public(KEYS.rsa, n="AQAB"),
        public(KEYS.rsa, n=5),
        public(KEYS.rsa, n="*"),
        public(KEYS.ec, crv="P-256K"),
        public(KEYS.ec, x="AAAA"),
        public(KEYS.ec, crv=["P-256"]),
        public(KEYS.okp, crv="X25519"),
        {"kty": "RSA"},
        {},
    ],
)
def test_a_key_that_cannot_verify_is_passed_over(useless: dict[str, Any]) -> None:
    (kept,) = parse_keys(key_set(useless, public(KEYS.ec)), ALL)
    assert kept.kid == "ec"
    with pytest.raises(ValueError, match="no key"):
        parse_keys(key_set(useless), ALL)


def test_what_a_key_may_verify() -> None:
    rsa, named, ec = parse_keys(key_set(public(KEYS.rsa), public(KEYS.rsa, alg="PS256"), public(KEYS.ec)), ALL)
    assert rsa.algorithms == {"RS256", "PS256"}
    assert named.algorithms == {"PS256"}
    assert ec.algorithms == {"ES256"}


def test_private_parts_are_not_kept() -> None:
    (kept,) = parse_keys(key_set(KEYS.rsa.as_dict(private=True)), ALL)
    assert not kept.key.is_private


def test_when_keys_are_loaded_again() -> None:
    refresh = Refresh(period=600, minimum=60)
    assert refresh.due == float("-inf")
    refresh.loaded(1000)
    assert refresh.due == 1600
    refresh.asked()
    assert refresh.due == 1060, "at most once a minute"
    refresh.asked()
    assert refresh.due == 1060
    waits = []
    for _ in range(9):
        refresh.failed(2000)
        waits.append(refresh.due - 2000)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    refresh.asked()
    assert refresh.due == 2060
    refresh.loaded(3000)
    refresh.failed(4000)
    assert refresh.due == 4001
