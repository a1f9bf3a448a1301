"""What a broker sends: bytes in any cuts ──► calls of the channels' receivers, in order.

A delivery whose three frames lie in one chunk is read in one go (`_whole`); any other is put together as it comes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp import BODY, FRAME_END, HEADER, HEARTBEAT, MAX_FRAME, METHOD, FrameError
from smart_router.protocols.amqp_methods import Method, decode_method

__all__ = ["MAX_BODY", "Decoder", "Got", "OnDeliver", "Receiver"]

MAX_BODY: Final = 128 * 1024 * 1024
"""RabbitMQ's own default for a message."""

_HEAD: Final = struct.Struct(">BHI").unpack_from
_U32: Final = struct.Struct(">I").unpack_from
_U16: Final = struct.Struct(">H").unpack_from
_TAG: Final = struct.Struct(">QB").unpack_from
_DELIVERY: Final = struct.Struct(">QBB").unpack_from
"""Delivery tag, redelivered, length of the exchange."""
_CONTENT: Final = struct.Struct(">HHQ").unpack_from
_CONTENT_HEAD: Final = struct.Struct(">BHIHHQ").unpack_from
_CONTENT_HEAD_SIZE: Final = 19

_RETURN: Final = 60 << 16 | 50
_DELIVER: Final = 60 << 16 | 60
_GET_OK: Final = 60 << 16 | 71
_ACK: Final = 60 << 16 | 80
_CONFIRMS: Final = frozenset((_ACK, 60 << 16 | 120))  # nack

OnDeliver = Callable[[int, bool, bytes, bytes, bytes, bytes], None]
"""(delivery tag, redelivered, exchange, routing key, properties, body)."""


class Got(NamedTuple):
    """basic.get-ok."""

    delivery_tag: int
    redelivered: bool
    exchange: bytes
    routing_key: bytes
    messages: int


class Receiver(Protocol):
    """A channel, as the decoder sees it. `consumers`: by consumer tag; `stray` gets what is for none of them."""

    consumers: dict[bytes, OnDeliver]

    def stray(
        self, tag: int, redelivered: bool, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None: ...

    def confirm(self, number: int, multiple: bool, ok: bool) -> None: ...

    def returned(
        self, code: int, text: str, exchange: bytes, routing_key: bytes, properties: bytes, body: bytes
    ) -> None: ...

    def got(self, got: Got, properties: bytes, body: bytes) -> None: ...

    def method(self, method: Method) -> None: ...


class _Content:
    """A message that is not complete yet; `call(*begin, properties, body)` when it is."""

    __slots__ = ("begin", "call", "missing", "pieces", "properties")

    def __init__(self, call: Callable[..., None], begin: tuple[Any, ...]) -> None:
        self.call = call
        self.begin = begin
        self.properties: bytes | None = None
        self.missing = 0
        self.pieces: list[bytes] = []


class Decoder:
    """`channels`: the receivers by number; kept by the caller, who may change it between and during calls."""

    def __init__(self, channels: dict[int, Receiver], max_body: int = MAX_BODY) -> None:
        self.frame_max = MAX_FRAME
        self._channels = channels
        self._max_body = max_body
        self._contents: dict[int, _Content] = {}
        self._held = bytearray()
        self._needed = 0  # so many bytes until it is worth looking
        self._at = 0

    def forget(self, number: int) -> None:
        """The channel is gone, and so is what had begun to come for it."""
        self._contents.pop(number, None)

    def receive(self, data: bytes) -> None:
        """FrameError: the connection cannot go on.

        What a receiver raises comes out as it is; `receive(b"")` then goes on behind that frame.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        self._at = 0
        try:
            self._frames(data)
        finally:
            if self._at < len(data):
                self._held += data[self._at :]

    def _frames(self, data: bytes) -> None:
        end = len(data)
        at = 0
        self._needed = 0
        while end - at >= 8:
            kind, number, size = _HEAD(data, at)
            stop = at + 7 + size
            if size > self.frame_max - 8:
                raise FrameError(501, "a frame is too large, or this is no AMQP")
            if stop >= end:
                self._needed = stop + 1 - at
                return
            if data[stop] != FRAME_END:
                raise FrameError(501, "a frame does not end where it says")
            self._at = stop + 1
            if kind == METHOD:
                self._method(data, at, stop, number)
            elif kind == BODY:
                self._body(number, data[at + 7 : stop])
            elif kind == HEADER:
                self._header(number, data[at + 7 : stop])
            elif kind != HEARTBEAT or number or size:
                raise FrameError(501, "an unknown kind of frame")
            at = self._at

    def _method(self, data: bytes, at: int, stop: int, number: int) -> None:
        channel = self._channels.get(number)
        if channel is None:
            raise FrameError(504, f"channel {number} is not open")
        if self._contents and number in self._contents:
            raise FrameError(505, "a method in the middle of a message")
        if stop < at + 11:
            raise FrameError(502, "a method is cut short")
        index = _U32(data, at + 7)[0]
        if index == _DELIVER:
            self._deliver(data, at + 11, stop, number)
        elif index in _CONFIRMS:
            if stop != at + 20:
                raise FrameError(502, "a confirm is not whole")
            tag, bits = _TAG(data, at + 11)
            channel.confirm(tag, bits & 1 == 1, index == _ACK)
        elif index == _RETURN:
            self._begin(number, channel.returned, _read_return(data[at + 11 : stop]))
        elif index == _GET_OK:
            self._begin(number, channel.got, _read_got(data[at + 11 : stop]))
        else:
            channel.method(_read_method(data[at + 7 : stop]))

    def _deliver(self, data: bytes, at: int, stop: int, number: int) -> None:
        """basic.deliver (1.8.3.9): consumer tag, delivery tag, redelivered, exchange, routing key."""
        try:
            tag_end = at + 1 + data[at]
            tag, redelivered, size = _DELIVERY(data, tag_end)
            exchange_end = tag_end + 10 + size
            key_end = exchange_end + 1 + data[exchange_end]
        except (struct.error, IndexError):
            raise FrameError(502, "a delivery is not whole") from None
        if key_end != stop:
            raise FrameError(502, "a delivery is not whole")
        channel = self._channels[number]
        call = channel.consumers.get(data[at + 1 : tag_end], channel.stray)
        exchange = data[tag_end + 10 : exchange_end]
        routing_key = data[exchange_end + 1 : key_end]
        header_end, next_at = self._whole(data, stop + 1, number)
        if next_at:
            self._at = next_at
            properties = data[stop + 1 + _CONTENT_HEAD_SIZE : header_end]
            call(tag, redelivered != 0, exchange, routing_key, properties, data[header_end + 8 : next_at - 1])
        else:
            self._contents[number] = _Content(call, (tag, redelivered != 0, exchange, routing_key))

    def _whole(self, data: bytes, at: int, number: int) -> tuple[int, int]:
        """Where the header frame's end octet is, and the next frame, if header and one body frame lie ready; else 0.

        Whatever looks unusual is left to the long way, which knows how to complain.
        """
        end = len(data)
        if end - at < _CONTENT_HEAD_SIZE + 2:
            return 0, 0
        kind, channel, size, class_id, _, body_size = _CONTENT_HEAD(data, at)
        header_end = at + 7 + size
        if kind != HEADER or channel != number or class_id != 60 or size < 14 or header_end + 8 >= end:
            return 0, 0
        kind, channel, size = _HEAD(data, header_end + 1)
        body_end = header_end + 8 + size
        if kind != BODY or channel != number or size != body_size or body_end >= end or size > self.frame_max - 8:
            return 0, 0
        if data[header_end] != FRAME_END or data[body_end] != FRAME_END:
            return 0, 0
        return header_end, body_end + 1

    def _begin(self, number: int, call: Callable[..., None], begin: tuple[Any, ...]) -> None:
        self._contents[number] = _Content(call, begin)

    def _header(self, number: int, payload: bytes) -> None:
        content = self._contents.get(number)
        if content is None or content.properties is not None:
            raise FrameError(505, "a header without its method")
        if len(payload) < 14:
            raise FrameError(502, "a header is not whole")
        class_id, _, size = _CONTENT(payload)
        if class_id != 60:
            raise FrameError(502, "a header of another class")
        if size > self._max_body:
            raise FrameError(501, f"a message of more than {self._max_body} bytes")
        content.properties = payload[12:]
        content.missing = size
        if not size:
            self._complete(number, content)

    def _body(self, number: int, payload: bytes) -> None:
        content = self._contents.get(number)
        if content is None or content.properties is None:
            raise FrameError(505, "a body without its header")
        content.missing -= len(payload)
        if content.missing < 0 or not payload:
            raise FrameError(501, "a body of another length than its header says")
        content.pieces.append(payload)
        if not content.missing:
            self._complete(number, content)

    def _complete(self, number: int, content: _Content) -> None:
        del self._contents[number]
        body = content.pieces[0] if len(content.pieces) == 1 else b"".join(content.pieces)
        content.call(*content.begin, content.properties, body)


def _read_method(payload: bytes) -> Method:
    try:
        return decode_method(payload)
    except ProtocolError as error:
        raise FrameError(502, error.message) from None


def _shorts(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """So many short strings from `at`, and where they end."""
    found = []
    for _ in range(count):
        start = at + 1
        at = start + data[at]
        found.append(data[start:at])
    return found, at


def _read_return(data: bytes) -> tuple[int, str, bytes, bytes]:
    """basic.return (1.8.3.8)."""
    try:
        code = _U16(data)[0]
        (text, exchange, routing_key), end = _shorts(data, 2, 3)
    except (struct.error, IndexError):
        raise FrameError(502, "a basic.return is cut short") from None
    if end != len(data):
        raise FrameError(502, "a basic.return does not end with its frame")
    return code, text.decode(errors="replace"), exchange, routing_key


def _read_got(data: bytes) -> tuple[Got]:
    """basic.get-ok (1.8.3.11)."""
    try:
        tag, redelivered = _TAG(data)
        (exchange, routing_key), end = _shorts(data, 9, 2)
        messages = _U32(data, end)[0]
    except (struct.error, IndexError):
        raise FrameError(502, "a basic.get-ok is cut short") from None
    if end + 4 != len(data):
        raise FrameError(502, "a basic.get-ok does not end with its frame")
    return (Got(tag, redelivered != 0, exchange, routing_key, messages),)
