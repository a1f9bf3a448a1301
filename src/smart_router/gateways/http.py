"""One HTTP/1.1 connection: uvicorn's httptools protocol with the limits and checks that it lacks, and the way to
WebSocket.

    bytes ─► llhttp ─► on_headers_complete: checks ─┬─► uvicorn's cycle ─► ASGI application
                                                    └─► gate ─► upgrade ─► WebSocket (this object is dropped)

After a refusal nothing more of the connection is read: whatever follows a bad request is not a request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from smart_router.gateways.heads import Head, check_head, wants_websocket
from smart_router.gateways.linger import Linger
from smart_router.gateways.peers import Peer
from smart_router.gateways.proxy import Client
from smart_router.gateways.request import HttpRequest, Refusal
from smart_router.gateways.response import render
from smart_router.gateways.service import Service
from smart_router.gateways.upgrade import busy, negotiate
from smart_router.gateways.websocket import WebSocket

__all__ = ["HttpProtocol"]

_HEAD: Final = 0  # waits for a request head, or is in one
_BODY: Final = 1
_BUSY: Final = 2  # the application has all of the request
_IDLE: Final = 3  # answered, kept alive
_OVER: Final = 4  # nothing more is read
_MAX_PIPELINED: Final = 16
_HALF_OPEN_AFTER: Final = 1.0

_SILENT: Final = logging.Logger("smart_router.http", logging.CRITICAL + 1)  # in no hierarchy, says nothing


class _Stop(Exception):
    """Leaves the parser from within a callback; `_refusal` says why."""


class HttpProtocol(HttpToolsProtocol):
    """`place`: in the counts, if who accepted the connection already has one; `address`: the client's, from a PROXY
    header."""

    def __init__(self, service: Service, place: Peer | None = None, address: str | None = None) -> None:
        super().__init__(service.config, service.state, {})
        self.logger = _SILENT  # what an application raises is logged by Service
        self.access_log = False
        self.deadline: float | None = None
        self.queued: float | None = None
        self._service = service
        self._place = place
        self._address = address
        self._phase = _HEAD
        self._head_until = 0.0
        self._head_new = False  # it began in this very read
        self._head_bytes = 0
        self._body_bytes = 0
        self._raw_bytes = 0
        self._running: RequestResponseCycle | None = None
        self._incomplete: RequestResponseCycle | None = None  # whose body is still coming
        self._refusal: Refusal | None = None
        self._websocket = False  # the present head wants one
        self._tail: bytes | None = None  # came behind it
        self._head = Head(b"", "", b"", [])
        self._request: HttpRequest | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        service = self._service
        if self._address is None:
            self._address = self.client[0] if self.client else ""
        if self._place is None:
            self._place = service.admit(self._address)
            if self._place is None:
                self._give_up(busy(service))
                return
        transport.set_write_buffer_limits(service.settings.write_high_water)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = _OVER
        super().connection_lost(exc)
        self._leave()

    def _leave(self) -> None:
        self.deadline = None
        self.parser = None  # type: ignore[assignment]
        self.connections.discard(self)
        place, self._place = self._place, None
        if place is not None:
            place.no_longer_half_open(self)
            self._service.lost(place)

    def shutdown(self) -> None:
        """Draining: an idle connection closes, a busy one after its answer; one in a request head may finish it."""
        if self._phase == _IDLE or (self._phase == _HEAD and not self._head_bytes):
            self.transport.close()
        elif self._running is not None:
            self._running.keep_alive = False

    def data_received(self, data: bytes) -> None:
        if self._phase == _OVER or self._websocket:
            return
        if self._phase == _IDLE:
            self._begin_head()
        self._raw_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or Refusal(400, body=b"malformed request"))
        else:
            self._check_raw(len(data))

    def _check_raw(self, size: int) -> None:
        """Bounds what the parser itself collects: of an unfinished head, of chunk sizes and trailers."""
        settings = self._service.settings
        if self._phase == _HEAD:
            self._head_bytes = 0 if self._head_new else self._head_bytes + size
            self._head_new = False
            if self._head_bytes > settings.head_bytes:
                self._refuse(_too_long())
        elif self._phase == _BODY and self._raw_bytes > 8 * settings.body_bytes + 262_144:
            self._refuse(Refusal(413, body=b"body too large"))

    # Deadlines

    def _begin_head(self) -> None:
        now = self._service.clock()
        self._phase = _HEAD
        self._head_bytes = 0
        self._raw_bytes = 0
        self._head_until = now + self._service.settings.head_timeout
        self._due(min(now + _HALF_OPEN_AFTER, self._head_until))

    def _due(self, when: float) -> None:
        self.deadline = when
        self._service.deadlines.watch(self)

    def handle_timer(self, now: float) -> None:
        self.deadline = None
        counters = self._service.counters
        if self._phase == _HEAD and now < self._head_until:
            self.deadline = self._head_until
            if self._place is not None:
                self._place.still_half_open(self)
        elif self._phase == _HEAD:
            counters.heads_late += 1
            self._refuse(Refusal(408, body=b"request head took too long"))
        elif self._phase == _BODY:
            counters.bodies_late += 1
            self._refuse(Refusal(408, body=b"request body took too long"))
        elif self._phase == _IDLE:
            self.transport.close()

    def too_many(self) -> None:
        """The oldest of too many half-open connections of its address."""
        self._service.counters.half_open_closed += 1
        self._refuse(Refusal(408, body=b"too many unfinished requests"))

    # The parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _HEAD
        self._head_new = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != _HEAD:
            return  # a trailer: nobody reads it
        super().on_header(name, value)
        if len(self.headers) > self._service.settings.head_count:
            self._stop(Refusal(431, body=b"too many headers"))

    def on_headers_complete(self) -> None:
        head = Head(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if (
            len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            > self._service.settings.head_bytes
        ):
            self._stop(_too_long())
        refusal = check_head(head) or self._check_body(head)
        if refusal is not None:
            self._stop(refusal)
        self._service.counters.requests += 1
        if self._place is not None:
            self._place.no_longer_half_open(self)
        self._head_new = False
        self._body_bytes = 0
        self._phase = _BODY
        self._due(self._service.clock() + self._service.settings.body_timeout)
        client = self._service.proxies.client(self._address or "", self.headers)
        if not self._count_for(client.address):
            self._stop(busy(self._service))
        if client.scheme is not None:
            self.scope["scheme"] = client.scheme
        self._websocket = wants_websocket(self.headers)
        if self._websocket:
            self._note_upgrade(head, client)
        else:
            self._note_request(client)

    def _count_for(self, address: str) -> bool:
        """Whose connection it is while a request is under way; a WebSocket stays its client's. False: too many."""
        place = self._place
        if place is not None and place.address != address:
            moved = self._service.move(place, address)
            if moved is None:
                return False
            self._place = moved
        return True

    def _note_upgrade(self, head: Head, client: Client) -> None:
        if not self.parser.should_upgrade():
            self._stop(Refusal(400, body=b"bad upgrade"))
        self._head = head
        url = httptools.parse_url(self.url)
        self._request = self._describe(unquote(url.path.decode("ascii")), url.query or b"", client)

    def _note_request(self, client: Client) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop(Refusal(503, body=b"too many requests at once"))
        super().on_headers_complete()
        self._incomplete = self.cycle
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        if client.address != (self.client[0] if self.client else ""):
            scope["client"] = (client.address, 0)
        scope["smart_router.request"] = self._describe(scope["path"], scope["query_string"], client)
        if self.parser.should_upgrade():  # to something that we do not speak: answered as HTTP/1.1, then closed
            self.cycle.keep_alive = False

    def _describe(self, path: str, query: bytes, client: Client) -> HttpRequest:
        scheme: str = self.scope["scheme"]
        host = (
            client.host
            or next((value for name, value in self.headers if name == b"host"), b"").decode("latin-1").lower()
        )
        return HttpRequest(path, query, self.headers, client.address, scheme, host)

    def _check_body(self, head: Head) -> Refusal | None:
        length = next((value for name, value in head.headers if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > self._service.settings.body_bytes:
            return Refusal(413, body=b"body too large")
        return None

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._service.settings.body_bytes:
            self._stop(Refusal(413, body=b"body too large"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._incomplete = None
        self._phase = _BUSY
        self.deadline = None
        if not self._websocket and self.cycle.response_complete:
            self._rest()

    def _should_upgrade(self) -> bool:
        return self._websocket

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Stop

    # Answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._service.counters.answers += 1
        self._running = None
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._refusal is not None:
            self._give_up(self._refusal)
        elif self._websocket:
            self._service.gate.enter(self)
        elif self._phase == _BUSY:
            self._rest()

    def _rest(self) -> None:
        if self._service.draining:
            self.transport.close()
            return
        self._count_for(self._address or "")
        self._phase = _IDLE
        self._due(self._service.clock() + self._service.settings.keep_alive)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and end; after the answers to complete requests before this one."""
        self._phase = _OVER
        self.deadline = None
        self._refusal = refusal
        answered = self._incomplete is not None and self._incomplete.response_complete
        if not self._drop_incomplete():
            self.transport.abort()
        elif self._running is None:
            self._give_up(refusal, answered=answered)

    def _drop_incomplete(self) -> bool:
        """The request whose body will not come: its application is told. False: its answer has begun."""
        cycle, self._incomplete = self._incomplete, None
        if cycle is None:
            return True
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        elif self._running is cycle:
            if cycle.response_started:
                return False
            self._running = None
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _give_up(self, refusal: Refusal, *, answered: bool = False) -> None:
        """`answered`: the application did not wait for the body, and a request gets one answer."""
        service = self._service
        service.counters.requests_refused += 1
        if self._place is not None:
            self._place.no_longer_half_open(self)
        service.log.info(
            "http_refused", status=refusal.status, reason=refusal.body.decode("latin-1"), peer=self._address
        )
        self._phase = _OVER
        if not self.transport.is_closing() and not answered:
            self.transport.write(render(refusal))
        self.deadline = None
        self.parser = None  # type: ignore[assignment]
        Linger(self.transport, service.deadlines, service.clock(), self._leave)

    # WebSocket

    def _upgrade(self, tail: bytes) -> None:
        if not self._websocket:
            self._phase = _OVER  # an upgrade that we do not speak: the answer comes, nothing more is read
            return
        self._tail = tail
        self.deadline = None
        self.transport.pause_reading()  # bytes behind the head wait in the kernel
        if self._running is None:
            self._service.gate.enter(self)

    def busy(self) -> None:
        """Too many handshakes wait."""
        self._give_up(busy(self._service))

    def shake(self) -> None:
        """The handshake's turn (RFC 6455, 4.2.2)."""
        service, request, place = self._service, self._request, self._place
        if self.transport.is_closing() or request is None or place is None:
            return
        agreed = negotiate(service, request, self._head)
        if isinstance(agreed, Refusal):
            service.counters.handshakes_refused += 1
            self._give_up(agreed)
            return
        self.transport.write(agreed.answer)
        self._place = None
        self._leave()
        WebSocket(self.transport, request, agreed.handler, place, service.cork).start(self._tail or b"")


def _too_long() -> Refusal:
    return Refusal(431, body=b"request head too long")
