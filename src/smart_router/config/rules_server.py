"""Rules of `[server]`, `[auth]`, `[broker]` and the keys on top: what must exist, and what needs something else."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path as File
from typing import Final
from urllib.parse import urlsplit

from smart_router.config.problems import Problems
from smart_router.config.rules import is_module_attribute
from smart_router.config.schema import AuthSettings, GatewaySettings, ServerSettings, Settings, TlsSettings

__all__ = ["check_auth", "check_server", "check_top", "is_loopback"]

OWN_PATHS: Final = frozenset({"/check", "/healthz", "/metrics", "/nodes", "/readyz", "/revocations"})
_FORM: Final = "write `module:attribute`, as in `my_project.app:app`"


def is_loopback(host: str) -> bool:
    """True for `localhost` and the loopback addresses: only programs of this machine reach them."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_server(settings: Settings, problems: Problems) -> None:
    server = settings.server
    if not (is_loopback(server.host) or settings.auth.enabled or settings.auth.insecure):
        problems.of(
            server,
            "host",
            f"`{server.host}` can be reached by others, and there is no authentication: give [auth] a secret, jwks or"
            " tokens, listen on 127.0.0.1, or say --insecure",
        )
    _check_gateways(server, problems)
    _check_peers(server, problems)
    if server.tls is not None:
        _check_tls(server.tls, problems)
    if server.static is not None and not File(server.static).is_dir():
        problems.of(server, "static", f"no such folder: {server.static}")
    _check_sizes(settings, problems)


def _check_gateways(server: ServerSettings, problems: Problems) -> None:
    seen: dict[str, GatewaySettings] = {}
    for gateway in server.gateways:
        if gateway.path in seen:
            problems.of(gateway, "path", f"`{gateway.path}` is taken by another gateway")
        seen[gateway.path] = gateway
        _check_gateway(gateway, problems)


def _check_gateway(gateway: GatewaySettings, problems: Problems) -> None:
    engine = gateway.kind in {"socketio", "engineio"}
    path = gateway.path
    if not path.startswith("/") or any(character in path for character in "?#% \\") or "//" in path:
        problems.of(
            gateway, "path", f"`{path[:64]}` is no path: write it as `/chat/`, without `?`, `#`, `%` and blanks"
        )
    elif path.rstrip("/") in OWN_PATHS:
        problems.of(gateway, "path", f"`{path}` is the router's own")
    elif engine and not path.endswith("/"):
        problems.of(gateway, "path", f"`{path}` must end with `/`, as Socket.IO clients ask for it: `{path}/`")
    if gateway.kind in {"engineio", "websocket"} and gateway.handler is None:
        problems.of(gateway, "handler", f"kind `{gateway.kind}` needs one: {_FORM}")
    if gateway.handler is not None and not is_module_attribute(gateway.handler):
        problems.of(gateway, "handler", f"`{gateway.handler[:64]}` is no handler: {_FORM}")
    for key in ("ping_interval", "ping_timeout", "connect_timeout"):
        if not 0.05 <= getattr(gateway, key) <= 3600:
            problems.of(gateway, key, "must be between 0.05 and 3600 seconds")


def _check_peers(server: ServerSettings, problems: Problems) -> None:
    for origin in server.origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            problems.of(
                server,
                "origins",
                f"`{origin[:64]}` is no origin: write each as `https://chat.example.org`, no path, no `*`",
            )
    for proxy in server.trusted_proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            problems.of(
                server, "trusted_proxies", f"`{proxy[:64]}` is neither an address nor a network such as `10.0.0.0/8`"
            )
    if server.proxy_protocol != "off" and not server.trusted_proxies:
        problems.of(server, "proxy_protocol", "needs `trusted_proxies`: anybody could claim any address")


def _check_tls(tls: TlsSettings, problems: Problems) -> None:
    absent = [key for key in ("certificate", "key") if not File(getattr(tls, key)).is_file()]
    for key in absent:
        problems.of(tls, key, f"no such file: {getattr(tls, key)}")
    if absent:
        return
    try:
        # A password is never asked for: a node starts without anybody at its keyboard.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "cannot be read"
        problems.of(
            tls, "certificate", f"not a PEM certificate with the key that belongs to it, not encrypted ({reason})"
        )


def _check_sizes(settings: Settings, problems: Problems) -> None:
    """A message that an endpoint allows must get in by some gateway of the router's own."""
    sizes = [gateway.max_payload for gateway in settings.server.gateways if gateway.handler is None]
    for endpoint in settings.endpoints.values():
        if sizes and endpoint.max_message_size > max(sizes):
            problems.of(
                endpoint, "max_message_size", f"no gateway lets more than {max(sizes)} bytes in: raise its max_payload"
            )


def check_auth(auth: AuthSettings, problems: Problems) -> None:
    if auth.jwks is not None:
        _check_jwks(auth, auth.jwks, problems)
    for algorithm in auth.algorithms:
        if algorithm.startswith("HS") and auth.secret is None:
            problems.of(auth, "algorithms", f"`{algorithm}` needs `secret`")
        if not algorithm.startswith("HS") and auth.jwks is None:
            problems.of(auth, "algorithms", f"`{algorithm}` needs `jwks`")
    if not (auth.secret or auth.jwks):
        for key in ("audience", "issuer"):
            if getattr(auth, key) is not None:
                problems.of(auth, key, "is only looked at in JWTs: give `secret` or `jwks`, or take it out")
    seen: set[str] = set()
    for token in auth.tokens:
        if token.token in seen:
            problems.of(token, "token", "is another subject's already")
        seen.add(token.token)


def _check_jwks(auth: AuthSettings, jwks: str, problems: Problems) -> None:
    parts = urlsplit(jwks)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    if parts.scheme in {"http", "ftp"}:
        problems.of(auth, "jwks", "keys over plain http can be changed on the way: use https")
    elif not File(jwks).is_file():
        problems.of(auth, "jwks", f"no such file: {jwks}")


def check_top(settings: Settings, problems: Problems) -> None:
    """`broker`, `store`, `app`, `data`."""
    scheme, colon, rest = settings.broker.url.partition("://")
    if scheme in {"redis", "rediss", "amqp", "amqps"}:
        pass
    elif scheme != "embedded" or not colon or any(character in rest for character in "?#"):
        problems.of(settings.broker, "url", "write `embedded://`, `embedded://memory` or `embedded://` and a folder")
    if not settings.store.startswith(("sqlite:///", "postgresql://")):
        forms = "`sqlite:///`, `sqlite:///` and a file, or `postgresql://user:password@host:port/database`"
        problems.of(settings, "store", f"write {forms}")
    if "router" not in settings.roles:
        text = (
            "a node with the role `gateway` alone has nobody to route for it: its node routes at once. Give both roles"
        )
        problems.of(settings, "roles", text)
    if settings.directory not in (None, "bus") and not str(settings.directory).startswith(("redis", "sentinel")):
        problems.of(settings, "directory", "write `bus`, or a Redis as `redis://user:password@host:port/0`")
    if settings.app is not None and not is_module_attribute(settings.app):
        problems.of(settings, "app", f"`{settings.app[:64]}` is no application: {_FORM}")
    if not settings.data:
        problems.of(settings, "data", "is empty: name a folder")
    elif File(settings.data).exists() and not File(settings.data).is_dir():
        problems.of(settings, "data", f"{settings.data} is not a folder")
