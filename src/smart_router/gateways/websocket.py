"""One WebSocket connection: RFC 6455's server side over picows' frame parser.

    bytes ─► parser (picows) ─► on_ws_frame ─► handler.text / binary / pong / closed
    send_text ─► frames ─► cork (one loop turn) ─► before_flush ─► one transport.write

picows checks masks, opcodes, lengths, control frames; the rest of section 5 is checked here. Sections in comments are
RFC 6455's.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from picows import WSFrame, WSMsgType, WSTransport

from smart_router.errors import ProtocolError
from smart_router.gateways.cork import Cork
from smart_router.gateways.fragments import Fragments, is_utf8
from smart_router.gateways.frames import CLOSE, NO_CODE, PONG, close_payload, parse_close, valid_close_code
from smart_router.gateways.handler import NOBODY, WebSocketHandler
from smart_router.gateways.linger import Linger
from smart_router.gateways.outgoing import CLOSING, ENDED, Outgoing
from smart_router.gateways.parser import Parser, feed, grown, open_parser
from smart_router.gateways.peers import Peer
from smart_router.gateways.request import HttpRequest

__all__ = ["WebSocket", "WebSocketHandler"]

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG

_LARGE: Final = 16_384  # a frame above leaves the parser with a buffer worth giving back
_TRY_LATER: Final = 1013
_NO_FRAME: Final = 1006  # "the connection went without a close frame"; never on the wire


class WebSocket(Outgoing):
    """One open connection. `send_*` and `ping` after it has ended do nothing: what was not confirmed is in the
    mailbox."""

    __slots__ = (
        "_code",
        "_control_seen",
        "_control_since",
        "_message",
        "_parser",
        "_peer",
        "_reading_paused",
        "deadline",
        "queued",
        "request",
    )

    request: HttpRequest

    def __init__(
        self, transport: asyncio.Transport, request: HttpRequest, handler: WebSocketHandler, peer: Peer, cork: Cork
    ) -> None:
        """`gateways/upgrade.py` makes it once the handshake is answered; `peer` is its place in the counts."""
        super().__init__(transport, handler, cork)
        self.request = request
        self.deadline: float | None = None  # of the closing handshake; see clock.Deadlines
        self.queued: float | None = None
        self._peer: Peer | None = peer
        self._code: tuple[int, str] | None = None  # of our close frame
        self._message: Fragments | None = None  # begun, not finished
        self._control_seen = 0  # theirs that nobody asked for, in the second that began at:
        self._control_since = 0.0
        self._reading_paused = False  # by the gateway
        self._parser: Parser | None = None

    def start(self, tail: bytes) -> None:
        """Begin to read; `tail` came behind the request head."""
        self._cork.open.add(self)
        self._cork.counters.websockets_opened += 1
        if self._cork.access is not None:
            self._cork.access.connected(self.request)
        self._replace_parser()
        try:
            self._handler.opened(self)
        except Exception as error:  # noqa: BLE001 (the gateway's fault ends this connection only)
            self._handler_raised(error)
        if tail and self._parser is not None:
            feed(self._parser, tail)
        if not self._reading_paused:
            self.resume_reading()

    # What the gateway calls

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake: nothing more is delivered, `closed` follows within the close timeout.

        `reason` is cut to 123 bytes. ValueError for a code that may not stand in a close frame.
        """
        if not valid_close_code(code):
            raise ValueError(f"{code} may not stand in a close frame")
        if self._state:
            return
        self._append(CLOSE, close_payload(code, reason))
        self._state = CLOSING
        self._code = (code, reason)
        self._message = None
        self.resume_reading()  # for the peer's close frame
        self._due(self._cork.close_timeout)

    def abort(self) -> None:
        """Close the transport at once, without a close frame; what was sent and not flushed is lost. `closed`
        follows."""
        if self._state != ENDED:
            self._state = CLOSING
        self._frames.clear()
        self._transport.abort()

    def pause_reading(self) -> None:
        """Take no more bytes from the peer; messages already read may still be delivered."""
        if not self._state:
            self._reading_paused = True
            if self._transport.is_reading():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._reading_paused = False
        if self._state != ENDED and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    # Reading

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows' call for each frame. Above all short for the usual one: a whole text message."""
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and not self._state
            and self._message is None
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            data = frame.get_payload_as_bytes()
            if len(data) <= _LARGE and (data.isascii() or is_utf8(data)):
                try:
                    self._handler.text(data)
                except Exception as error:  # noqa: BLE001 (as in start)
                    self._handler_raised(error)
                return
        self._unusual(frame)

    def _unusual(self, frame: WSFrame) -> None:
        if self._state == ENDED:
            return
        try:
            if frame.rsv1 or frame.rsv2 or frame.rsv3:
                raise ProtocolError("reserved bit set")  # no extension is ever negotiated (5.2)
            kind = frame.msg_type
            if kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
                self._data(kind, frame)
            elif kind is _PING:
                self._ping(frame.get_payload_as_bytes())
            elif kind is _PONG:
                self._pong(frame.get_payload_as_bytes())
            else:
                self._peer_closes(*parse_close(frame.get_payload_as_bytes()))
        except ProtocolError as error:
            self._fail(error.close_code, error.message)
        except Exception as error:  # noqa: BLE001 (as in start)
            self._handler_raised(error)

    def _data(self, kind: WSMsgType, frame: WSFrame) -> None:
        if self._state:
            return
        message = self._message
        if (message is None) == (kind is _CONTINUATION):
            raise ProtocolError("fragments out of order")  # 5.4
        if message is None:
            message = self._message = Fragments(kind is _TEXT, self.request.max_message, self._cork.fragments)
        message.reserve(frame.payload_size)
        message.add(frame.get_payload_as_bytes())
        if frame.fin:
            self._message = None
            data = message.join()
            if message.is_text:
                self._handler.text(data)
            else:
                self._handler.binary(data)
        if frame.payload_size > _LARGE and frame.last_in_buffer and not frame.tail_size and not self._state:
            self._replace_parser()

    def _ping(self, data: bytes) -> None:
        if self._state:
            return
        self._cork.counters.pings += 1
        self._count_control()
        if self._writable:
            self._append(PONG, data)
        else:
            self._pong_held = data

    def _pong(self, data: bytes) -> None:
        if self._state:
            return
        self._cork.counters.pongs += 1
        if self._pings_awaited:
            self._pings_awaited -= 1
        else:
            self._count_control()
        self._handler.pong(data)

    def _count_control(self) -> None:
        """Pings and pongs nobody asked for: so many a second, then 1008."""
        now = self._cork.clock()
        if now - self._control_since >= 1:
            self._control_since = now
            self._control_seen = 0
        self._control_seen += 1
        if self._control_seen > self._cork.control_per_second:
            self._cork.counters.control_floods += 1
            raise ProtocolError("too many control frames", close_code=1008)

    def _replace_parser(self) -> None:
        """A new parser, with the small buffer; only while no part of a frame is in the old one."""
        self._parser = open_parser(self, self.request.max_message)
        self._transport.set_protocol(cast(asyncio.BaseProtocol, self._parser))

    @property
    def held(self) -> int:
        """Bytes of memory for what is no whole message yet, beyond what each connection has (read_buffers.py)."""
        message = self._message
        buffer = 0 if self._parser is None else grown(self._parser)
        return buffer if message is None else buffer + message.size

    # Ends

    def shed(self) -> None:
        """Others need its memory: closed at once with 1013, which tells a client to come back later."""
        self._fail(_TRY_LATER, "the node's read buffers are full: come again later")
        self._parser = None

    def _peer_closes(self, code: int, reason: str) -> None:
        if not self._state:
            self._append(CLOSE, b"" if code == NO_CODE else close_payload(code, reason))
            self._code = (code, reason)
        self._end()
        self._transport.close()
        self._due(self._cork.close_timeout)

    def broken(self, code: int) -> None:
        """The parser found a frame that may not be. A frame before it is delivered first, after this call."""
        if self._state != ENDED and not self._transport.is_closing():
            self._transport.pause_reading()
            self._cork.soon(lambda: self._fail(code, "frame not allowed"))

    def _handler_raised(self, error: Exception) -> None:
        self._cork.counters.handler_errors += 1
        self._cork.log.error("websocket_handler_error", exc_info=error, peer=self.request.peer, path=self.request.path)
        self._fail(1011, "internal error", logged=True)

    def _fail(self, code: int, reason: str, logged: bool = False) -> None:
        """Section 7.1.7: say why, stop reading frames, let the peer close."""
        if self._state == ENDED:
            return
        self._cork.counters.websockets_failed += 1
        if not logged:
            self._cork.log.info("websocket_failed", code=code, reason=reason, peer=self.request.peer)
        if not self._state:
            self._append(CLOSE, close_payload(code, reason))
            self._code = (code, reason)
        self._end()
        Linger(self._transport, self._cork.deadlines, self._cork.clock(), self._gone)

    def _end(self) -> None:
        """The last of the handler: whatever was sent leaves, nothing more is delivered."""
        code, reason = self._code or (_NO_FRAME, "")
        self._state = ENDED
        self.flush()
        handler, self._handler = self._handler, NOBODY
        self._message = None
        self.deadline = None
        self._cork.counters.websockets_closed += 1
        if self._cork.access is not None:
            self._cork.access.disconnected(self.request, code)
        try:
            handler.closed(code, reason)
        except Exception as error:
            self._cork.counters.handler_errors += 1
            self._cork.log.error("websocket_handler_error", exc_info=error, peer=self.request.peer)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows' call when the connection is lost."""
        self._gone()

    def _gone(self) -> None:
        if self._state != ENDED:
            self._frames.clear()
            self._end()
        self.deadline = None
        self._parser = None
        self._cork.open.discard(self)
        peer, self._peer = self._peer, None
        if peer is not None:
            self._cork.lost(peer)

    def _due(self, seconds: float) -> None:
        self.deadline = self._cork.clock() + seconds
        self._cork.deadlines.watch(self)

    def handle_timer(self, now: float) -> None:
        """The closing handshake took too long, or the last bytes did not leave."""
        self.deadline = None
        self._transport.abort()
