"""Which web pages may talk to us: the Origin rule for WebSocket and HTTP, and the CORS headers that go with it.

Default: the page must come from our own scheme, host and port. A request without Origin is from a program (or is a
page's same-origin GET) and is let in unless `require_origin`.

Where nobody needs a token, our own pages are those under an IP address or `localhost`: whoever owns a name can point it
at a reader's own machine, and their page would then be "ours" (DNS rebinding). Such a page's GETs carry no Origin, so
over HTTP the Host must be an address, `localhost`, or the name of a listed origin. Not so for WebSockets: there a
browser always says its Origin, and programs may use whatever name they like.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from smart_router.gateways.request import HttpRequest, Refusal

__all__ = ["OriginRule"]

_PORT: Final = re.compile(r":[0-9]*\Z")
_PORTS: Final = {"http": ":80", "https": ":443"}
_FOREIGN: Final = Refusal(403, body=b"this origin is not allowed")
_MISSING: Final = Refusal(403, body=b"an Origin header is required")
_NAMED: Final = Refusal(
    403,
    body=b"without authentication, this server answers under an IP address or localhost only: use"
    b" http://127.0.0.1 with the port, set up [auth], or list the origin of this name in [server] origins",
)
_VARY: Final = (b"vary", b"Origin")


class OriginRule:
    """`allowed`: origins such as `https://chat.example.org`, `https://*.example.org` (not the bare domain), `null`,
    or `*`. `addresses_only`: our own pages are those under an IP address or `localhost`."""

    __slots__ = ("_addresses_only", "_any", "_exact", "_name_ends", "_names", "_require", "_suffixes")

    def __init__(
        self, allowed: Iterable[str] = (), require_origin: bool = False, *, addresses_only: bool = False
    ) -> None:
        names = [name.strip().lower().rstrip("/") for name in allowed]
        self._any = "*" in names
        self._exact = frozenset(_without_default_port(name) for name in names if "*" not in name)
        self._suffixes = tuple(_suffix(name) for name in names if "://*." in name)
        self._names = frozenset(_name(origin) for origin in self._exact)
        self._name_ends = tuple(_name(origin) for origin in map("".join, self._suffixes))
        self._require = require_origin
        self._addresses_only = addresses_only

    def refuses(self, request: HttpRequest) -> Refusal | None:
        """None, or the 403 to answer with."""
        origins = [value for name, value in request.headers if name == b"origin"]
        if not origins:
            return _MISSING if self._require else None
        if len(origins) > 1 or not (self._any or self._is_own(origins[0], request) or self._is_listed(origins[0])):
            return _FOREIGN
        return self.refuses_name(request)

    def refuses_name(self, request: HttpRequest) -> Refusal | None:
        """The 403 for an HTTP request under a name that anybody may have pointed at us: of our own page, or of none."""
        if not self._addresses_only or self._any or not request.host or _is_address(request.host):
            return None
        origin = request.header(b"origin")
        if origin is None:
            return None if self._is_listed_name(_PORT.sub("", request.host)) else _NAMED
        return _NAMED if self._is_own(origin, request) and not self._is_listed(origin) else None

    def cors_headers(self, request: HttpRequest, methods: bytes = b"GET, POST, OPTIONS") -> list[tuple[bytes, bytes]]:
        """What a response to a request that is not refused carries; empty without Origin, for our own and a foreign
        one.

        A listed origin may send credentials; `*` is answered with `*`, and then without. For a preflight
        (`Access-Control-Request-Method`) `methods` and the headers it asks for are added.
        """
        origin = request.header(b"origin")
        if origin is None or self.refuses(request) is not None or self._is_own(origin, request):
            return [_VARY]
        if self._is_listed(origin):
            headers = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true"), _VARY]
        else:
            headers = [(b"access-control-allow-origin", b"*")]
        if request.header(b"access-control-request-method") is not None:
            headers.append((b"access-control-allow-methods", methods))
            headers.append((b"access-control-max-age", b"600"))
            asked = request.header(b"access-control-request-headers")
            if asked is not None and len(asked) <= 1024:
                headers.append((b"access-control-allow-headers", asked))
        return headers

    @staticmethod
    def _is_own(origin: bytes, request: HttpRequest) -> bool:
        own = f"{request.scheme}://{request.host}"
        return bool(request.host) and _text(origin) == _without_default_port(own)

    def _is_listed(self, origin: bytes) -> bool:
        text = _text(origin)
        return text in self._exact or any(
            text.startswith(scheme) and text.endswith(domain) and len(text) > len(scheme) + len(domain)
            for scheme, domain in self._suffixes
        )

    def _is_listed_name(self, name: str) -> bool:
        """Whatever scheme and port its origin is listed with: the name is not a stranger's."""
        return name in self._names or any(name.endswith(end) and name != end for end in self._name_ends)


def _is_address(host: str) -> bool:
    name = _PORT.sub("", host)
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True


def _name(origin: str) -> str:
    """The host of an origin, without scheme and port."""
    return _PORT.sub("", origin.partition("://")[2])


def _text(origin: bytes) -> str:
    return _without_default_port(origin.decode("latin-1").lower())


def _without_default_port(origin: str) -> str:
    scheme = origin.partition("://")[0]
    return origin.removesuffix(_PORTS.get(scheme, "\0"))


def _suffix(name: str) -> tuple[str, str]:
    scheme, _, domain = name.partition("*")
    return scheme, _without_default_port(scheme + domain)[len(scheme) :]
