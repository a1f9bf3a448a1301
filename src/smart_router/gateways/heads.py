"""What a request head must be before anything is done with it (RFC 9112), and a WebSocket upgrade (RFC 6455, 4.2). No
I/O.

llhttp has checked the syntax; here is what it lets pass and a router behind proxies may not: each request has one
length, one host, one meaning.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple

from smart_router.gateways.request import Refusal

__all__ = ["Head", "Headers", "Upgrade", "check_head", "check_upgrade", "tokens", "values", "wants_websocket"]

Headers = list[tuple[bytes, bytes]]

_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Head(NamedTuple):
    """A request head as it came; header names in lower case."""

    method: bytes
    version: str
    target: bytes
    headers: Headers


class Upgrade(NamedTuple):
    """A valid WebSocket handshake: what to answer, what the client offers."""

    accept: bytes
    subprotocols: tuple[str, ...]


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of that lower-case name, in order."""
    return [value for key, value in headers if key == name]


def tokens(headers: Headers, name: bytes) -> list[bytes]:
    """The comma-separated elements of all headers of that name, in lower case."""
    return [token.strip(b" \t").lower() for value in values(headers, name) for token in value.split(b",")]


def check_head(head: Head) -> Refusal | None:
    """None, or why this is not a request that we answer; the connection ends then."""
    if head.method not in _METHODS:
        return Refusal(501, body=b"method not supported")
    if not head.target.startswith(b"/") and not _is_other_form(head):
        return Refusal(400, body=b"bad request target")
    if head.version not in ("1.0", "1.1"):
        return Refusal(505, body=b"HTTP version not supported")
    if any(_CONTROL.search(value) for _, value in head.headers):
        return Refusal(400, body=b"control character in a header")
    return _check_host(head) or _check_length(head) or _check_expect(head)


def _is_other_form(head: Head) -> bool:
    """Absolute form, or the `*` of OPTIONS (RFC 9112, 3.2)."""
    if head.method == b"OPTIONS" and head.target == b"*":
        return True
    return head.target.lower().startswith((b"http://", b"https://"))


def _check_host(head: Head) -> Refusal | None:
    hosts = values(head.headers, b"host")
    if len(hosts) > 1 or (not hosts and head.version == "1.1"):
        return Refusal(400, body=b"exactly one Host header, please")
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refusal(400, body=b"bad Host header")
    return None


def _check_length(head: Head) -> Refusal | None:
    lengths = values(head.headers, b"content-length")
    codings = values(head.headers, b"transfer-encoding")
    if len(lengths) > 1 or (lengths and codings):
        return Refusal(400, body=b"more than one length")
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        return Refusal(400, body=b"bad Content-Length")
    if codings and (head.version == "1.0" or len(codings) > 1 or codings[0].lower() != b"chunked"):
        return Refusal(400, body=b"bad Transfer-Encoding")
    if b"upgrade" in tokens(head.headers, b"connection") and (codings or (lengths and int(lengths[0]))):
        return Refusal(400, body=b"an upgrade has no body")
    return None


def _check_expect(head: Head) -> Refusal | None:
    expected = values(head.headers, b"expect")
    if expected and (len(expected) > 1 or expected[0].lower() != b"100-continue"):
        return Refusal(417, body=b"only 100-continue can be expected")
    return None


def wants_websocket(headers: Headers) -> bool:
    """`Connection: keep-alive, Upgrade`, as Firefox sends it, is one too."""
    return b"websocket" in tokens(headers, b"upgrade") and b"upgrade" in tokens(headers, b"connection")


def check_upgrade(head: Head) -> Upgrade | Refusal:
    """Section 4.2.1; no extension is ever accepted, so what the client offers is not even parsed."""
    if head.method != b"GET" or head.version != "1.1":
        return Refusal(400, body=b"a WebSocket handshake is a GET of HTTP/1.1")
    if values(head.headers, b"sec-websocket-version") != [b"13"]:
        headers = ((b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"))
        return Refusal(426, headers, b"WebSocket version 13, please")
    keys = values(head.headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refusal(400, body=b"bad Sec-WebSocket-Key")
    offered = [
        part.strip(b" \t") for value in values(head.headers, b"sec-websocket-protocol") for part in value.split(b",")
    ]
    if len(set(offered)) != len(offered) or not all(_TOKEN.fullmatch(name) for name in offered):
        return Refusal(400, body=b"bad Sec-WebSocket-Protocol")
    accept = base64.b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())
    return Upgrade(accept, tuple(name.decode() for name in offered))


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
