"""The HTTP side of one Engine.IO session: the GET that waits for packets, the POST that brings some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from smart_router.errors import ProtocolError
from smart_router.gateways.request import HttpRequest
from smart_router.protocols.engineio import HandshakeError

if TYPE_CHECKING:
    from smart_router.gateways.engine_connection import EngineConnection
    from smart_router.gateways.probe import Probe

__all__ = ["Answer", "Polling", "refused"]

Receive = Callable[[], Awaitable[Any]]

_TEXT: Final = b"text/plain; charset=UTF-8"
_TOO_LARGE: Final = b"the body is larger than maxPayload, which the handshake tells"
_ENCODED: Final = b"a body with Content-Encoding is not accepted: send it plain"


class Answer(NamedTuple):
    """One HTTP response."""

    status: int
    body: bytes
    kind: bytes = _TEXT
    extra: tuple[tuple[bytes, bytes], ...] = ()

    def headers(self) -> list[tuple[bytes, bytes]]:
        head = [(b"content-length", b"%d" % len(self.body)), (b"cache-control", b"no-store"), *self.extra]
        return [(b"content-type", self.kind), *head] if self.body else head


def refused(error: HandshakeError) -> Answer:
    """The answer of that code."""
    return Answer(error.status, error.body, b"application/json")


class Polling:
    """Made with its connection, dropped when an upgrade is complete. What a loop turn writes leaves in one answer."""

    __slots__ = ("_connection", "_flushing", "_loop", "_posting", "_resumed", "_waiter", "probe")

    def __init__(self, connection: EngineConnection) -> None:
        self.probe: Probe | None = None
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bytes] | None = None  # of the GET that waits
        self._resumed: asyncio.Future[None] | None = None  # of a POST whose answer waits until reading goes on
        self._posting = False
        self._flushing = False

    def send(self, data: bytes, binary: bool = False) -> None:
        """One packet, for the answer of this loop turn or a later one."""
        self._connection.session.send(data, binary)
        self.schedule()

    def schedule(self) -> None:
        """`flush` comes at the end of this loop turn."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if connection.polling is not self:
            return
        try:
            connection.before_flush()
        except Exception as error:  # noqa: BLE001 (a handler's fault ends its own connection only)
            connection.broken(error)
        if connection.session.closed:
            connection.end(connection.session.close_reason or "", 1008)
        else:
            self._answer()

    def _answer(self) -> None:
        waiter = self._waiter
        if waiter is not None and (body := self._connection.session.take_body()) is not None:
            self._release(waiter, body)

    def _release(self, waiter: asyncio.Future[bytes], body: bytes) -> None:
        self._waiter = None
        if not waiter.done():
            waiter.set_result(body)

    def resume(self) -> None:
        """Reading goes on: a POST may be answered."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)

    def finish(self, body: bytes | None) -> None:
        """No more polls: the last body for a GET that waits."""
        waiter = self._waiter
        if waiter is not None:
            self._release(waiter, body if body is not None else b"6")
        self.resume()

    # Requests

    async def get(self, receive: Receive) -> Answer:
        connection = self._connection
        try:
            body = connection.session.poll(connection.now())
            connection.proven()
        except ProtocolError as error:
            connection.fail(error)
            return refused(HandshakeError.BAD_REQUEST)
        except Exception as error:  # noqa: BLE001 (as in _flush)
            connection.broken(error)
            return refused(HandshakeError.BAD_REQUEST)
        if body is None and connection.polling is not self:  # a handler has closed it
            return refused(HandshakeError.BAD_REQUEST)
        return Answer(200, body if body is not None else await self._wait(receive))

    async def _wait(self, receive: Receive) -> bytes:
        waiter = self._waiter = self._loop.create_future()
        watch = self._loop.create_task(_gone(receive))
        watch.add_done_callback(self._aborted)
        try:
            self._answer()  # a handler may have written meanwhile
            body: bytes = await waiter
            if watch.done():
                self._aborted()  # the answer reaches nobody
            return body
        except asyncio.CancelledError:
            self._aborted()
            raise
        finally:
            watch.remove_done_callback(self._aborted)
            watch.cancel()

    def _aborted(self, _: object = None) -> None:
        connection = self._connection
        if connection.polling is self:
            connection.session.poll_aborted()
            connection.end("poll aborted")

    async def post(self, request: HttpRequest, receive: Receive) -> Answer:
        if (encoding := request.header(b"content-encoding")) is not None and encoding != b"identity":
            self._connection.gateway.counters.requests_refused += 1
            return Answer(415, _ENCODED)
        if self._posting:
            self._connection.fail(ProtocolError("posts overlap"))
            return refused(HandshakeError.BAD_REQUEST)
        self._posting = True
        try:
            return await self._take(request, receive)
        finally:
            self._posting = False

    async def _take(self, request: HttpRequest, receive: Receive) -> Answer:
        connection = self._connection
        try:
            body = await _read(request, receive, connection.gateway.options.max_payload)
        except ProtocolError as error:
            connection.fail(error)
            return Answer(413, _TOO_LARGE)
        if body is None:
            connection.end("post aborted")
        if body is None or connection.polling is not self:
            return refused(HandshakeError.BAD_REQUEST)
        try:
            packets = connection.session.post(body, connection.now())
        except ProtocolError as error:
            connection.fail(error)
            return refused(HandshakeError.BAD_REQUEST)
        connection.take(packets)
        if connection.paused and connection.polling is self:
            self._resumed = self._loop.create_future()
            await self._resumed
        return Answer(200, b"ok")


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(request: HttpRequest, receive: Receive, limit: int) -> bytes | None:
    """The body; None: the client has gone before its end. ProtocolError once it is known to be too large."""
    length = request.header(b"content-length") or b""
    if length.isdigit() and int(length) > limit:
        raise ProtocolError("body is too large", close_code=1009)
    parts = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        parts.append(event["body"])
        size += len(event["body"])
        if size > limit:
            raise ProtocolError("body is too large", close_code=1009)
        if not event["more_body"]:
            return b"".join(parts)
