"""Who the client is behind proxies that we trust: Forwarded (RFC 7239), X-Forwarded-*, PROXY protocol version 2. No
I/O.

Only what a trusted address says is believed, hop by hop from our end: the client is the first address that is not
trusted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from smart_router.errors import ConfigError, ProtocolError
from smart_router.gateways.heads import Headers, values

__all__ = ["PROXY_HEAD", "PROXY_SIGNATURE", "Client", "TrustedProxies", "proxy_source", "proxy_tail"]

PROXY_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY_HEAD: Final = 16  # bytes; its last two are the length of what follows
_MAX_TAIL: Final = 2048  # addresses and TLVs
_MAX_HOPS: Final = 32
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,255}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Client(NamedTuple):
    """What the outermost trusted proxy saw; None: it did not say."""

    address: str
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    """`networks`: addresses or networks, `10.0.0.0/8`; ConfigError for what is neither."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = []
        for text in networks:
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as error:
                raise ConfigError([f"trusted_proxies: {text!r} is neither an address nor a network"]) from error

    def trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: Headers) -> Client:
        """The client of a request that came from `peer`. `Forwarded` goes before `X-Forwarded-*`, they are never
        mixed."""
        if not self.trusts(peer):
            return Client(peer)
        hops = _forwarded(values(headers, b"forwarded")) or _x_forwarded(headers)
        client = Client(peer)
        for hop in reversed(hops[-_MAX_HOPS:]):
            if _address(hop.address) is None:
                break  # `unknown`, an obfuscated name, rubbish: what lies behind it cannot be believed
            client = hop
            if not self.trusts(hop.address):
                break
        return client


def _forwarded(lines: list[bytes]) -> list[Client]:
    return [_hop(element) for element in b",".join(lines).decode("latin-1").split(",")] if lines else []


def _hop(element: str) -> Client:
    pairs = {}
    for part in element.split(";"):
        match = _PAIR.fullmatch(part)
        if match is None:
            return Client("")
        pairs[match[1].lower()] = match[3] if match[2] is None else match[2]
    return Client(_node(pairs.get("for", "")), _scheme(pairs.get("proto")), _host(pairs.get("host")))


def _x_forwarded(headers: Headers) -> list[Client]:
    hops = _elements(headers, b"x-forwarded-for")
    schemes, hosts = _elements(headers, b"x-forwarded-proto"), _elements(headers, b"x-forwarded-host")
    return [
        Client(_node(hop), _scheme(_at(schemes, index, len(hops))), _host(_at(hosts, index, len(hops))))
        for index, hop in enumerate(hops)
    ]


def _elements(headers: Headers, name: bytes) -> list[str]:
    lines = values(headers, name)
    return [part.strip() for part in b",".join(lines).decode("latin-1").split(",")] if lines else []


def _at(given: list[str], index: int, hops: int) -> str | None:
    """A proxy appends to each list, or overwrites with one value: then that is the nearest proxy's word."""
    if not given:
        return None
    return given[index] if len(given) == hops else given[-1]


def _node(text: str) -> str:
    """`192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]:4711`: the address alone."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _scheme(text: str | None) -> str | None:
    scheme = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
    return scheme.get(text.lower()) if text else None


def _host(text: str | None) -> str | None:
    return text.lower() if text and _HOST.fullmatch(text) else None


def _address(text: str) -> Address | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def proxy_tail(head: bytes) -> int:
    """How many bytes follow these 16 of a PROXY header; ProtocolError if they are none of version 2."""
    size = int.from_bytes(head[14:16], "big")
    if head[:12] != PROXY_SIGNATURE or head[12] >> 4 != 2 or head[12] & 15 > 1 or size > _MAX_TAIL:
        raise ProtocolError("not a PROXY header of version 2")
    return size


def proxy_source(head: bytes, tail: bytes) -> str | None:
    """The client's address; None for LOCAL (the proxy's own health check) and for address families without one."""
    if head[12] & 15 == 0:
        return None
    family, sizes = head[13] >> 4, {1: 12, 2: 36}
    if family not in sizes:
        return None
    if len(tail) < sizes[family]:
        raise ProtocolError("PROXY header too short")
    return str(ipaddress.ip_address(tail[: 4 if family == 1 else 16]))
