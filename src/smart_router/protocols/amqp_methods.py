"""Methods: the rare ones, by one table (AMQP 0-9-1, 1.1 to 1.8; RabbitMQ's extensions). The hot ones are in amqp.py.

Method("queue.declare", queue="q", durable=True) ──► encode_method ──► payload ──► decode_method ──► Method
"""

from __future__ import annotations

import struct
from typing import Any, Final

from smart_router.errors import ProtocolError
from smart_router.protocols.amqp_table import encode_short, encode_table, table_at

__all__ = ["METHODS", "Method", "decode_method", "encode_method"]

METHODS: Final[dict[str, tuple[int, int, str]]] = {
    # name: class, method, fields as name:type in their order; `-` begins the name of a reserved one
    "connection.start": (10, 10, "major:B minor:B properties:F mechanisms:S locales:S"),
    "connection.start-ok": (10, 11, "properties:F mechanism:s response:S locale:s"),
    "connection.secure": (10, 20, "challenge:S"),
    "connection.tune": (10, 30, "channel_max:H frame_max:I heartbeat:H"),
    "connection.tune-ok": (10, 31, "channel_max:H frame_max:I heartbeat:H"),
    "connection.open": (10, 40, "vhost:s -1:s -2:t"),
    "connection.open-ok": (10, 41, "-1:s"),
    "connection.close": (10, 50, "code:H text:s class_id:H method_id:H"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "channel.open": (20, 10, "-1:s"),
    "channel.open-ok": (20, 11, "-1:S"),
    "channel.close": (20, 40, "code:H text:s class_id:H method_id:H"),
    "channel.close-ok": (20, 41, ""),
    "exchange.declare": (
        40,
        10,
        "-1:H exchange:s kind:s passive:t durable:t auto_delete:t internal:t nowait:t arguments:F",
    ),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "-1:H exchange:s if_unused:t nowait:t"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "-1:H destination:s source:s routing_key:s nowait:t arguments:F"),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (40, 40, "-1:H destination:s source:s routing_key:s nowait:t arguments:F"),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (50, 10, "-1:H queue:s passive:t durable:t exclusive:t auto_delete:t nowait:t arguments:F"),
    "queue.declare-ok": (50, 11, "queue:s messages:I consumers:I"),
    "queue.bind": (50, 20, "-1:H queue:s exchange:s routing_key:s nowait:t arguments:F"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "-1:H queue:s nowait:t"),
    "queue.purge-ok": (50, 31, "messages:I"),
    "queue.delete": (50, 40, "-1:H queue:s if_unused:t if_empty:t nowait:t"),
    "queue.delete-ok": (50, 41, "messages:I"),
    "queue.unbind": (50, 50, "-1:H queue:s exchange:s routing_key:s arguments:F"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "size:I count:H whole_channel:t"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (60, 20, "-1:H queue:s tag:s no_local:t no_ack:t exclusive:t nowait:t arguments:F"),
    "basic.consume-ok": (60, 21, "tag:s"),
    "basic.cancel": (60, 30, "tag:s nowait:t"),
    "basic.cancel-ok": (60, 31, "tag:s"),
    "basic.get": (60, 70, "-1:H queue:s no_ack:t"),
    "basic.get-empty": (60, 72, "-1:s"),
    "confirm.select": (85, 10, "nowait:t"),
    "confirm.select-ok": (85, 11, ""),
}

_Fields = tuple[tuple[str, str], ...]
_U32: Final = struct.Struct(">I")
_NUMBERS: Final = {kind: struct.Struct(">" + kind) for kind in "BHI"}


class Method:
    """`name` as in METHODS; a field that is not given is 0, False, "" or {}. `method["field"]` reads one.

    A long string (`mechanisms`, `response`) is bytes; a short one, text.
    """

    __slots__ = ("fields", "name")

    def __init__(self, name: str, /, **fields: Any) -> None:
        self.name = name
        self.fields = fields

    def __getitem__(self, field: str) -> Any:
        return self.fields[field]

    def __repr__(self) -> str:
        return f"Method({self.name})"  # a field may hold a password


def _read_table() -> tuple[dict[str, tuple[bytes, _Fields]], dict[int, tuple[str, _Fields]]]:
    by_name, by_index = {}, {}
    for name, (class_id, method_id, text) in METHODS.items():
        parts = [field.rpartition(":") for field in text.split()]
        fields = tuple((field, kind) for field, _, kind in parts)
        index = class_id << 16 | method_id
        by_name[name] = (_U32.pack(index), fields)
        by_index[index] = (name, fields)
    return by_name, by_index


_BY_NAME, _BY_INDEX = _read_table()
_DEFAULTS: Final[dict[str, Any]] = {"s": "", "S": b"", "F": {}, "t": False, "B": 0, "H": 0, "I": 0}


def encode_method(method: Method) -> bytes:
    """A frame's payload. ValueError: a field does not fit."""
    index, fields = _BY_NAME[method.name]
    if unknown := method.fields.keys() - {name for name, _ in fields}:
        raise ValueError(f"{method.name} has no {unknown.pop()}")
    parts = [index]
    bits = 0
    for name, kind in fields:
        value = method.fields.get(name, _DEFAULTS[kind])
        if kind != "t":
            parts.append(_encode(kind, value))
            bits = 0
        elif bits == 0:
            bits = 1
            parts.append(bytes((bool(value),)))
        else:
            parts[-1] = bytes((parts[-1][0] | bool(value) << bits,))
            bits += 1  # no method has more than eight in a row
    return b"".join(parts)


def _encode(kind: str, value: Any) -> bytes:
    if kind == "s":
        return encode_short(value)
    if kind == "F":
        return encode_table(value)
    if kind == "S":
        return _U32.pack(len(value)) + bytes(value)
    try:
        return _NUMBERS[kind].pack(value)
    except struct.error:
        raise ValueError("a number does not fit its field") from None


def decode_method(payload: bytes) -> Method:
    """ProtocolError: no method that a client may get, or not whole."""
    try:
        known = _BY_INDEX.get(_U32.unpack_from(payload)[0])
        if known is None:
            raise ProtocolError("AMQP: an unknown method")
        name, fields = known
        method = Method(name)
        at, bits = 4, 0
        for field, kind in fields:
            if kind == "t":
                method.fields[field] = payload[at - (bits > 0)] >> bits & 1 == 1
                at += bits == 0
                bits += 1
            else:
                method.fields[field], at = _decode(kind, payload, at)
                bits = 0
    except (struct.error, IndexError):
        raise ProtocolError("AMQP: a method is cut short") from None
    except UnicodeDecodeError:
        raise ProtocolError("AMQP: a method's text is not UTF-8") from None
    if at != len(payload):
        raise ProtocolError("AMQP: a method does not end with its frame")
    return method


def _decode(kind: str, payload: bytes, at: int) -> tuple[Any, int]:
    if kind == "F":
        return table_at(payload, at)
    if kind == "s":
        start, end = at + 1, at + 1 + payload[at]
    elif kind == "S":
        start, end = at + 4, at + 4 + int(_U32.unpack_from(payload, at)[0])
    else:
        number = _NUMBERS[kind]
        return number.unpack_from(payload, at)[0], at + number.size
    if end > len(payload):
        raise IndexError
    return (payload[start:end] if kind == "S" else payload[start:end].decode()), end
