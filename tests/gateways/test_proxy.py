"""Whom proxies are believed about: Forwarded, X-Forwarded-*, PROXY version 2."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.errors import ConfigError, ProtocolError
from smart_router.gateways.listener import ListenerSettings
from smart_router.gateways.proxy import PROXY_SIGNATURE, Client, TrustedProxies, proxy_source, proxy_tail
from tests.gateways.raw import connect, frame, listening, upgrade

TRUSTED = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])

CHAINS = [
    # (peer, headers, client)
    ("127.0.0.1", {}, Client("127.0.0.1")),
    ("192.0.2.9", {"x-forwarded-for": "1.2.3.4"}, Client("192.0.2.9")),
    ("192.0.2.9", {"forwarded": "for=1.2.3.4;proto=https"}, Client("192.0.2.9")),
    ("127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, Client("1.2.3.4")),
    ("::ffff:127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, Client("1.2.3.4")),
    ("127.0.0.1", {"x-forwarded-for": "6.6.6.6, 1.2.3.4"}, Client("1.2.3.4")),
    ("127.0.0.1", {"x-forwarded-for": "6.6.6.6, 1.2.3.4, 10.1.1.1"}, Client("1.2.3.4")),
    ("127.0.0.1", {"x-forwarded-for": "10.1.1.2, 10.1.1.1"}, Client("10.1.1.2")),
    ("127.0.0.1", {"x-forwarded-for": "1.2.3.4:5678"}, Client("1.2.3.4")),
    ("127.0.0.1", {"x-forwarded-for": "[2001:db8::1]:99"}, Client("2001:db8::1")),
    ("127.0.0.1", {"x-forwarded-for": "2001:db8::1"}, Client("2001:db8::1")),
    ("127.0.0.1", {"x-forwarded-for": "rubbish"}, Client("127.0.0.1")),
    ("127.0.0.1", {"x-forwarded-for": "1.2.3.4, rubbish, 10.1.1.1"}, Client("10.1.1.1")),
    ("127.0.0.1", {"x-forwarded-for": ""}, Client("127.0.0.1")),
    (
        "127.0.0.1",
        {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https", "x-forwarded-host": "Chat.Example"},
        Client("1.2.3.4", "https", "chat.example"),
    ),
    ("127.0.0.1", {"x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "gopher"}, Client("1.2.3.4")),
    ("127.0.0.1", {"x-forwarded-for": "1.2.3.4", "x-forwarded-host": "a/b"}, Client("1.2.3.4")),
    (
        "127.0.0.1",
        {"forwarded": "for=1.2.3.4;proto=https;host=chat.example"},
        Client("1.2.3.4", "https", "chat.example"),
    ),
    ("127.0.0.1", {"forwarded": 'For="[2001:db8::1]:99" ; Proto=HTTPS'}, Client("2001:db8::1", "https")),
    ("127.0.0.1", {"forwarded": "for=6.6.6.6, for=1.2.3.4, for=10.1.1.1;proto=https"}, Client("1.2.3.4")),
    ("127.0.0.1", {"forwarded": "for=unknown"}, Client("127.0.0.1")),
    ("127.0.0.1", {"forwarded": "for=_hidden, for=10.0.0.9"}, Client("10.0.0.9")),
    ("127.0.0.1", {"forwarded": "for=1.2.3.4", "x-forwarded-for": "6.6.6.6"}, Client("1.2.3.4")),
    ("127.0.0.1", {"forwarded": 'for="1.2.3.4'}, Client("127.0.0.1")),
]


@pytest.mark.parametrize(("peer", "headers", "client"), CHAINS)
def test_the_client_is_the_first_that_is_not_trusted(peer: str, headers: dict[str, str], client: Client) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert TRUSTED.client(peer, raw) == client


@given(
    st.lists(
        st.tuples(st.sampled_from([b"forwarded", b"x-forwarded-for", b"x-forwarded-host"]), st.binary()), max_size=4
    )
)
def test_whatever_the_headers_say_the_client_has_an_address(headers: list[tuple[bytes, bytes]]) -> None:
    ipaddress.ip_address(TRUSTED.client("127.0.0.1", headers).address)


def test_nonsense_in_the_settings_is_named() -> None:
    with pytest.raises(ConfigError, match="neither an address"):
        TrustedProxies(["10.0.0.0/99"])


def proxy(source: str | None, tlvs: bytes = b"", command: int = 0x21) -> bytes:
    if source is None:
        return PROXY_SIGNATURE + b"\x20\0" + len(tlvs).to_bytes(2, "big") + tlvs
    address = ipaddress.ip_address(source)
    body = address.packed * 2 + b"\x12\x34\0\x50" + tlvs
    family = 0x11 if address.version == 4 else 0x21
    return PROXY_SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7", None])
def test_a_proxy_header_is_read(source: str | None) -> None:
    data = proxy(source, b"\x04\0\x01x")
    assert proxy_tail(data[:16]) == len(data) - 16
    assert proxy_source(data[:16], data[16:]) == source


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=100))
def test_any_other_bytes_are_refused_or_none(head: bytes, tail: bytes) -> None:
    for start in (head, PROXY_SIGNATURE + b"\x21" + head[13:]):
        try:
            proxy_tail(start)
            source = proxy_source(start, tail)
        except ProtocolError:
            continue
        assert source is None or ipaddress.ip_address(source)


def behind(mode: str, *trusted: str) -> ListenerSettings:
    assert mode in ("optional", "v2")
    return ListenerSettings(port=0, proxy_protocol="v2" if mode == "v2" else "optional", trusted_proxies=trusted)


@pytest.mark.parametrize("cut", [1, 5, 12, 16, 20, 28, 1000])
async def test_a_connection_is_its_clients(cut: int) -> None:
    data = proxy("192.0.2.7") + upgrade() + frame(1, b"echo")
    async with listening(behind("v2", "127.0.0.1")) as server, connect(server) as client:
        await client.send_cut([data[:cut], data[cut:]])
        assert b" 101 " in await client.head()
        assert await client.frame() == (1, b"echo")
        socket = server.recorders[0].socket
        assert socket is not None
        assert socket.request.peer == "192.0.2.7"
        assert server.listener.statistics().connections == 1


async def test_a_required_header_is_required() -> None:
    async with listening(behind("v2", "127.0.0.1")) as server, connect(server) as client:
        client.send(upgrade())
        assert await client.rest() == b""
        assert server.listener.statistics().proxy_headers_bad == 1
        assert len(server.lines) == 1


async def test_only_trusted_proxies_may_connect_where_it_is_required() -> None:
    async with listening(behind("v2", "10.0.0.0/8")) as server, connect(server) as client:
        client.send(proxy("192.0.2.7") + upgrade())
        assert await client.rest() in (b"", b"reset")


@pytest.mark.parametrize("start", [b"", proxy("192.0.2.7"), proxy(None)])
async def test_an_optional_header_is_optional(start: bytes) -> None:
    async with listening(behind("optional", "127.0.0.1")) as server, connect(server) as client:
        await client.send_cut([start + upgrade()[:3], upgrade()[3:]])
        assert b" 101 " in await client.head()
        socket = server.recorders[0].socket
        assert socket is not None
        assert socket.request.peer == ("192.0.2.7" if len(start) > 16 else "127.0.0.1")


async def test_forwarded_clients_reach_the_gateway() -> None:
    async with listening(ListenerSettings(port=0, trusted_proxies=("127.0.0.1",))) as server, connect(server) as client:
        forwarded = b"for=192.0.2.7;proto=https;host=chat.example"
        client.send(upgrade(forwarded=forwarded, origin=b"https://chat.example"))
        assert b" 101 " in await client.head()
        socket = server.recorders[0].socket
        assert socket is not None
        assert (socket.request.peer, socket.request.scheme, socket.request.host) == (
            "192.0.2.7",
            "https",
            "chat.example",
        )


def of(address: bytes) -> bytes:
    """A request that its proxy forwards for a client of this address."""
    return b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + address + b"\r\n\r\n"


FEW = ListenerSettings(port=0, trusted_proxies=("127.0.0.1",), connections_per_address=1)


async def test_forwarded_clients_have_the_limit_of_their_own_address() -> None:
    async with listening(FEW) as server, connect(server) as first:
        first.send(upgrade(forwarded=b"for=192.0.2.7"))
        assert b" 101 " in await first.head()
        for start in (upgrade(forwarded=b"for=192.0.2.7"), of(b"192.0.2.7")):
            async with connect(server) as second:
                second.send(start)
                assert (await second.response())[0] == 503
        async with connect(server) as other:
            other.send(upgrade(forwarded=b"for=192.0.2.8"))
            assert b" 101 " in await other.head()
        statistics = server.listener.statistics()
        assert (statistics.connections_refused, statistics.addresses) == (2, 2)
        first.writer.transport.abort()
        await server.until(lambda: server.listener.statistics().connections == 0)
        async with connect(server) as again:
            again.send(upgrade(forwarded=b"for=192.0.2.7"))
            assert b" 101 " in await again.head()
        await server.until(lambda: server.listener.statistics().addresses == 0)


async def test_a_proxys_idle_connection_is_nobodys() -> None:
    async with listening(FEW) as server, connect(server) as kept, connect(server) as other:
        for address in (b"192.0.2.7", b"192.0.2.8", b"192.0.2.7"):
            kept.send(of(address))
            assert (await kept.response())[0] == 200
        other.send(of(b"192.0.2.7"))
        assert (await other.response())[0] == 200
        assert server.listener.statistics().connections_refused == 0
        assert server.listener.statistics().addresses == 1


async def test_a_header_that_does_not_come_is_not_waited_for() -> None:
    settings = ListenerSettings(port=0, proxy_protocol="v2", trusted_proxies=("127.0.0.1",), head_timeout=0.05)
    async with listening(settings) as server, connect(server) as client:
        client.send(PROXY_SIGNATURE[:5])
        assert await client.rest() in (b"", b"reset")
        await server.until(lambda: server.listener.statistics().connections == 0)
