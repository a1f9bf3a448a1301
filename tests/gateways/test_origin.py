"""P10: who may come from which page."""

from __future__ import annotations

import pytest

from smart_router.gateways.listener import ListenerSettings
from smart_router.gateways.origin import OriginRule
from smart_router.gateways.request import HttpRequest
from tests.gateways.raw import connect, listening, upgrade, websocket


def request(origin: str | None, host: str = "chat.example", scheme: str = "https", **more: str) -> HttpRequest:
    headers = [(b"origin", origin.encode())] if origin is not None else []
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
    return HttpRequest("/", b"", headers, "192.0.2.1", scheme, host)


ALLOWED = [
    # (allow list, origin, host, scheme)
    ((), None, "chat.example", "https"),
    ((), "https://chat.example", "chat.example", "https"),
    ((), "https://chat.example:443", "chat.example", "https"),
    ((), "https://chat.example", "chat.example:443", "https"),
    ((), "HTTPS://Chat.Example", "chat.example", "https"),
    ((), "http://chat.example:8080", "chat.example:8080", "http"),
    ((), "http://[::1]:8080", "[::1]:8080", "http"),
    (("https://a.example",), "https://a.example", "chat.example", "https"),
    (("https://a.example:443/",), "https://a.example", "chat.example", "https"),
    (("https://*.example",), "https://a.b.example", "chat.other", "https"),
    (("null",), "null", "chat.example", "https"),
    (("*",), "https://whoever.example", "chat.example", "https"),
]

FOREIGN = [
    ((), "https://evil.example", "chat.example", "https"),
    ((), "http://chat.example", "chat.example", "https"),
    ((), "https://chat.example:8443", "chat.example", "https"),
    ((), "https://chat.example.evil.example", "chat.example", "https"),
    ((), "https://evilchat.example", "chat.example", "https"),
    ((), "https://chat.example/path", "chat.example", "https"),
    ((), "https://user@chat.example", "chat.example", "https"),
    ((), "null", "chat.example", "https"),
    ((), "", "chat.example", "https"),
    ((), "https://", "", "https"),
    ((), "file://", "chat.example", "https"),
    (("https://a.example",), "https://a.example.evil", "chat.example", "https"),
    (("https://a.example",), "http://a.example", "chat.example", "https"),
    (("https://*.example",), "https://example", "chat.other", "https"),
    (("https://*.example",), "https://.example", "chat.other", "https"),
    (("https://*.example",), "http://a.example", "chat.other", "https"),
    (("https://*.a.example",), "https://evila.example", "chat.other", "https"),
]


@pytest.mark.parametrize(("allowed", "origin", "host", "scheme"), ALLOWED)
def test_let_in(allowed: tuple[str, ...], origin: str | None, host: str, scheme: str) -> None:
    assert OriginRule(allowed).refuses(request(origin, host, scheme)) is None


@pytest.mark.parametrize(("allowed", "origin", "host", "scheme"), FOREIGN)
def test_refused(allowed: tuple[str, ...], origin: str, host: str, scheme: str) -> None:
    rule = OriginRule(allowed)
    refusal = rule.refuses(request(origin, host, scheme))
    assert refusal is not None
    assert refusal.status == 403
    assert not any(name.startswith(b"access-control") for name, _ in rule.cors_headers(request(origin, host, scheme)))


def test_a_required_origin() -> None:
    rule = OriginRule(require_origin=True)
    assert rule.refuses(request("https://chat.example")) is None
    refusal = rule.refuses(request(None))
    assert refusal is not None
    assert refusal.status == 403


def test_cors_headers_of_a_listed_origin_allow_credentials_and_say_vary() -> None:
    headers = dict(OriginRule(["https://a.example"]).cors_headers(request("https://a.example")))
    assert headers[b"access-control-allow-origin"] == b"https://a.example"
    assert headers[b"access-control-allow-credentials"] == b"true"
    assert headers[b"vary"] == b"Origin"


def test_star_is_never_with_credentials() -> None:
    headers = dict(OriginRule(["*"]).cors_headers(request("https://a.example")))
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in headers


def test_a_preflight_is_told_methods_and_headers() -> None:
    asked = request("https://a.example", access_control_request_method="POST", access_control_request_headers="x-a")
    headers = dict(OriginRule(["https://a.example"]).cors_headers(asked))
    assert headers[b"access-control-allow-methods"] == b"GET, POST, OPTIONS"
    assert headers[b"access-control-allow-headers"] == b"x-a"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]", "localhost", "localhost:8080"])
def test_without_authentication_our_pages_are_under_an_address(host: str) -> None:
    assert OriginRule(addresses_only=True).refuses(request(f"http://{host}", host, "http")) is None


NAMES = ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost", "1.2.3:80", "[::g]"]


@pytest.mark.parametrize("host", NAMES)
def test_a_name_may_be_anybodys(host: str) -> None:
    """DNS rebinding: the page and its requests have the same origin, and only the name tells that it is not ours."""
    page = request(f"http://{host}", host, "http")
    refusal = OriginRule(addresses_only=True).refuses(page)
    assert refusal is not None
    assert (refusal.status, b"[server] origins" in refusal.body) == (403, True)
    assert OriginRule(addresses_only=False).refuses(page) is None
    assert OriginRule([f"http://{host}"], addresses_only=True).refuses(page) is None
    assert OriginRule(addresses_only=True).refuses(request(None, host, "http")) is None


@pytest.mark.parametrize("host", NAMES)
def test_a_get_of_such_a_page_has_no_origin(host: str) -> None:
    refusal = OriginRule(addresses_only=True).refuses_name(request(None, host, "http"))
    assert refusal is not None
    assert (refusal.status, b"[server] origins" in refusal.body) == (403, True)
    assert OriginRule(addresses_only=False).refuses_name(request(None, host, "http")) is None


LISTED = ["https://chat.example", "https://*.example.org:8443"]
HOSTS = {"": True, "[::1]:8080": True, "10.1.2.3": True, "localhost:8080": True, "chat.example:8080": True}
HOSTS |= {"chat.example": True, "a.example.org": True, "example.org": False, ".example.org": False, "x": False}


@pytest.mark.parametrize(("host", "ours"), HOSTS.items())
def test_programs_and_probes_name_an_address_or_a_listed_name(host: str, ours: bool) -> None:
    rule = OriginRule(LISTED, addresses_only=True)
    assert (rule.refuses_name(request(None, host, "http")) is None) == ours
    assert OriginRule(["*"], addresses_only=True).refuses_name(request(None, host, "http")) is None


async def test_on_the_wire_a_foreign_page_never_reaches_the_gateway() -> None:
    async with listening(ListenerSettings(port=0, origins=("https://a.example",))) as server:
        for origin, status in (
            (b"https://evil.example", 403),
            (b"https://a.example", 101),
            (b"http://test.example", 101),
        ):
            async with connect(server) as client:
                client.send(upgrade(origin=origin))
                assert b" %d " % status in await client.head()
        assert len(server.recorders) == 2
        assert server.listener.statistics().origins_refused == 1
        async with websocket(server):
            pass
