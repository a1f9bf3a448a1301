"""A message of ours as an AMQP message, and back.

    properties: delivery mode, [expiration], message id, timestamp, type    for people who look at queues
                headers: {"sr": MessagePack of Meta}                        what we read
    body:       the message's body, then its attachments

What arrives is validated; anything else on our queues is foreign. RabbitMQ may add headers of its own behind ours.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from smart_router.amqp import decode_properties
from smart_router.errors import ProtocolError
from smart_router.message import Message

__all__ = ["Arrival", "Meta", "death_of", "decode", "encode", "encode_token"]

VERSION: Final = 1
_HEAD: Final = struct.Struct(">HI4sI")
_MARK: Final = b"\x02srx"
_HEADERS, _MODE, _EXPIRATION, _ID, _TIMESTAMP, _TYPE = 1 << 13, 1 << 12, 1 << 8, 1 << 7, 1 << 6, 1 << 5
_PLAIN: Final = _HEADERS | _MODE | _ID | _TIMESTAMP | _TYPE
_U64: Final = struct.Struct(">Q")
_MODES: Final = (b"\x01", b"\x02")


class Meta(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """`address`: "" where the routing key says it. `sizes`: of the attachments. `repeated`: published more than once,
    as its confirm did not come. `end`, `reason`: it goes to the dead letters. `lane`: no message, but the sign that the
    mailbox has a lane of this priority; -1 otherwise.
    """

    version: int
    id: str
    sender: str
    at: int
    type: str
    priority: int
    expires_at: int
    key: str | None = None
    supersede: str | None = None
    sizes: list[int] = []
    address: str = ""
    repeated: bool = False
    end: str = ""
    reason: str = ""
    lane: int = -1
    wants: int = 0
    asker: str | None = None


class Arrival(msgspec.Struct, gc=False):
    meta: Meta
    message: Message


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Meta).decode


def encode(
    message: Message,
    durable: bool,
    ttl: int,
    *,
    address: str = "",
    repeated: bool = False,
    end: tuple[str, str] = ("", ""),
) -> bytes:
    """The properties. `ttl`: ms that it may wait, 0: no limit. `end`: (end, reason) of a dead letter."""
    meta = Meta(
        VERSION,
        message.id,
        message.sender,
        message.at,
        message.type,
        message.priority,
        message.expires_at,
        message.key,
        message.supersede,
        [len(part) for part in message.attachments] if message.attachments else [],
        address,
        repeated,
        *end,
        wants=message.wants,
        asker=message.asker,
    )
    return _properties(meta, durable, ttl)


def encode_token(priority: int, durable: bool, ttl: int, address: str) -> bytes:
    """The sign that a lane of this priority exists; its body is empty."""
    return _properties(Meta(VERSION, "lane", "", 0, "lane", priority, 0, address=address, lane=priority), durable, ttl)


def _properties(meta: Meta, durable: bool, ttl: int) -> bytes:
    packed = _pack(meta)
    size = len(packed)
    id_, type_ = meta.id.encode()[:255], meta.type.encode()[:60]
    flags, expiration = _PLAIN, b""
    if ttl:
        digits = b"%d" % ttl
        flags, expiration = _PLAIN | _EXPIRATION, bytes((len(digits),)) + digits
    if len(type_) == 60:
        type_ = type_.decode("utf-8", "ignore").encode()
    return b"".join(
        (
            _HEAD.pack(flags, size + 8, _MARK, size),
            packed,
            _MODES[durable],
            expiration,
            bytes((len(id_),)),
            id_,
            _U64.pack(meta.at // 1000),
            bytes((len(type_),)),
            type_,
        )
    )


def decode(properties: bytes, body: bytes) -> Arrival | None:
    """None: foreign."""
    meta = _meta(properties)
    if meta is None or meta.version != VERSION or not 0 <= meta.priority <= 9:
        return None
    attachments: tuple[bytes, ...] = ()
    if meta.sizes:
        cut = _cut(body, meta.sizes)
        if cut is None:
            return None
        body, attachments = cut
    return Arrival(
        meta,
        Message(
            meta.id,
            meta.sender,
            meta.at,
            meta.type,
            body,
            attachments,
            meta.priority,
            meta.expires_at,
            meta.supersede,
            meta.key,
            meta.wants,
            meta.asker,
        ),
    )


def _meta(properties: bytes) -> Meta | None:
    try:
        if properties[6:10] == _MARK:
            return _unpack(properties[14 : 14 + int.from_bytes(properties[10:14], "big")])
        packed = (decode_properties(properties).headers or {}).get("sr")
        return _unpack(packed) if isinstance(packed, bytes) else None
    except (msgspec.MsgspecError, ProtocolError, UnicodeDecodeError, RecursionError):
        return None


def _cut(body: bytes, sizes: list[int]) -> tuple[bytes, tuple[bytes, ...]] | None:
    start = at = len(body) - sum(sizes)
    if start < 0 or min(sizes) < 0:
        return None
    attachments = []
    for size in sizes:
        attachments.append(body[at : at + size])
        at += size
    return body[:start], tuple(attachments)


def death_of(properties: bytes) -> str:
    """RabbitMQ's first reason for taking it out of its queue: `expired`, `maxlen`, `rejected`, `delivery_limit`; ""."""
    try:
        reason = (decode_properties(properties).headers or {}).get("x-first-death-reason")
    except ProtocolError:
        return ""
    return reason if isinstance(reason, str) else ""
