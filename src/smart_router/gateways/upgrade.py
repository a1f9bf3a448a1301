"""The decision on a WebSocket handshake: RFC 6455, then the Origin, then the gateway."""

from __future__ import annotations

from typing import NamedTuple

from smart_router.gateways.handler import WebSocketHandler
from smart_router.gateways.heads import Head, check_upgrade
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.response import switching
from smart_router.gateways.service import Service

__all__ = ["Agreed", "busy", "negotiate"]


class Agreed(NamedTuple):
    """The handler of the new connection, and the 101 that it begins with."""

    handler: WebSocketHandler
    answer: bytes


def negotiate(service: Service, request: HttpRequest, head: Head) -> Agreed | Refusal:
    """Empties `request.headers` when agreed: an open connection keeps no request head."""
    upgrade = check_upgrade(head)
    if isinstance(upgrade, Refusal):
        return upgrade
    request.subprotocols = upgrade.subprotocols
    request.max_message = service.settings.max_message
    handler = _decide(service, request)
    if isinstance(handler, Refusal):
        return handler
    request.headers = []
    return Agreed(handler, switching(upgrade.accept, request.subprotocol))


def _decide(service: Service, request: HttpRequest) -> WebSocketHandler | Refusal:
    if service.draining:
        return busy(service)
    foreign = service.origins.refuses(request)
    if foreign is not None:
        service.counters.origins_refused += 1
        return foreign
    try:
        return service.decide(request)
    except Exception as error:
        service.counters.handler_errors += 1
        service.log.error("websocket_decision_error", exc_info=error, path=request.path)
        return Refusal(500, body=b"internal error")


def busy(service: Service) -> Refusal:
    """503, with the time after which to come again."""
    retry = (b"retry-after", b"%d" % service.settings.retry_after)
    return Refusal(503, (retry,), b"busy: come again later")
