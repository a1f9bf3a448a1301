"""Answers that are written without an application: refusals, and the 101 of an upgrade. No I/O."""

from __future__ import annotations

from http import HTTPStatus

from smart_router.gateways.request import Refusal

__all__ = ["render", "switching"]


def render(refusal: Refusal) -> bytes:
    """The whole response; the connection closes after it."""
    try:
        phrase = HTTPStatus(refusal.status).phrase
    except ValueError:
        phrase = ""
    lines = [b"HTTP/1.1 %d %s" % (refusal.status, phrase.encode())]
    lines += [name + b": " + value for name, value in refusal.headers]
    if refusal.body and not any(name.lower() == b"content-type" for name, _ in refusal.headers):
        lines.append(b"content-type: text/plain; charset=utf-8")
    connection = b"close, upgrade" if refusal.status == HTTPStatus.UPGRADE_REQUIRED else b"close"
    lines += [b"content-length: %d" % len(refusal.body), b"connection: " + connection, b"", refusal.body]
    return b"\r\n".join(lines)


def switching(accept: bytes, subprotocol: str | None) -> bytes:
    """`accept`: of the client's key (RFC 6455, 4.2.2)."""
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
    )
    if subprotocol is not None:
        head += b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("ascii")
    return head + b"\r\n\r\n"
