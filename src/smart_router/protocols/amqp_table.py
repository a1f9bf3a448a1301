"""Tables: names and typed values (AMQP 0-9-1, 4.2.5.5; the types as RabbitMQ reads and writes them, its errata, 3).

Encoding the wrong thing is the caller's fault: ValueError. Decoding it is the peer's: ProtocolError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from smart_router.errors import ProtocolError

__all__ = ["MAX_DEPTH", "decode_table", "encode_short", "encode_table", "table_at"]

MAX_DEPTH: Final = 16
"""Tables and lists in each other; the outermost is the first."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_U32: Final = struct.Struct(">I")
_LONG: Final = struct.Struct(">cI").pack
_INT: Final = struct.Struct(">cq").pack
_DOUBLE: Final = struct.Struct(">cd").pack
_DECIMAL: Final = struct.Struct(">BI")
_FIXED: Final = {
    # type octet: how it is read
    ord("b"): struct.Struct(">b"),
    ord("B"): struct.Struct(">B"),
    ord("s"): struct.Struct(">h"),
    ord("u"): struct.Struct(">H"),
    ord("I"): struct.Struct(">i"),
    ord("i"): struct.Struct(">I"),
    ord("l"): struct.Struct(">q"),
    ord("L"): struct.Struct(">q"),
    ord("f"): struct.Struct(">f"),
    ord("d"): struct.Struct(">d"),
    ord("T"): struct.Struct(">Q"),
}
_STRING, _BYTES, _BOOL, _TABLE, _LIST, _VOID, _DEC, _TIME = b"SxtFAVDT"


def encode_short(text: str) -> bytes:
    """A short string: at most 255 bytes."""
    data = text.encode()
    if len(data) > 255:
        raise ValueError("a short string of AMQP has at most 255 bytes")
    return bytes((len(data),)) + data


def encode_table(table: Mapping[str, Any], depth: int = 1) -> bytes:
    """With its length. Integers go as 64 bits, texts as UTF-8."""
    parts = []
    for name, value in table.items():
        parts.append(encode_short(name))
        parts.append(_encode_str(value) if type(value) is str else _encode(value, depth))
    data = b"".join(parts)
    return _U32.pack(len(data)) + data


def _encode(value: Any, depth: int) -> bytes:
    encode = _ENCODERS.get(type(value))
    if encode is not None:
        return encode(value)
    if depth >= MAX_DEPTH:
        raise ValueError(f"tables are nested at most {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return b"F" + encode_table(value, depth + 1)
    if isinstance(value, list | tuple):
        data = b"".join([_encode(item, depth + 1) for item in value])
        return _LONG(b"A", len(data)) + data
    raise ValueError(f"no AMQP type for {type(value).__name__}")


def _encode_str(value: str) -> bytes:
    data = value.encode()
    return _LONG(b"S", len(data)) + data


def _encode_int(value: int) -> bytes:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("an integer of AMQP has 64 bits")
    return _INT(b"l", value)


def _encode_decimal(value: Decimal) -> bytes:
    """RabbitMQ reads the digits unsigned."""
    sign, digits, exponent = value.as_tuple()
    number = int("0" + "".join(map(str, digits)))
    if sign or not isinstance(exponent, int) or not -255 <= exponent <= 0 or number >= 1 << 32:
        raise ValueError("a decimal of AMQP is positive, with 32 bits and at most 255 places")
    return b"D" + _DECIMAL.pack(-exponent, number)


def _encode_time(value: datetime) -> bytes:
    if value.tzinfo is None or value < _EPOCH:
        raise ValueError("a time of AMQP has a zone and is not before 1970")
    seconds = (value - _EPOCH) // timedelta(seconds=1)
    return b"T" + seconds.to_bytes(8, "big")


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: _encode_str,
    int: _encode_int,
    bool: lambda value: b"t\x01" if value else b"t\x00",
    bytes: lambda value: _LONG(b"x", len(value)) + value,
    float: lambda value: _DOUBLE(b"d", value),
    type(None): lambda _: b"V",
    Decimal: _encode_decimal,
    datetime: _encode_time,
}


def decode_table(data: bytes) -> dict[str, Any]:
    """All of `data`, which begins with the length. ProtocolError: not a table, or more than one."""
    table, end = table_at(data, 0)
    if end != len(data):
        raise ProtocolError("AMQP: bytes behind a table")
    return table


def table_at(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """The table that begins at `at`, and where it ends."""
    try:
        return _table(data, at, 1)
    except (struct.error, IndexError):
        raise ProtocolError("AMQP: a table is cut short") from None
    except (UnicodeDecodeError, OverflowError):
        raise ProtocolError("AMQP: a name or a time in a table is not valid") from None


def _table(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    at, end = _span(data, at)
    table = {}
    while at < end:
        start = at + 1
        at = start + data[at]
        name = data[start:at].decode()
        if data[at] == _STRING:
            start, at = _span(data, at + 1)
            table[name] = _text(data[start:at])
        else:
            table[name], at = _value(data, at, depth)
    if at != end:
        raise ProtocolError("AMQP: a table does not end where it says")
    return table, end


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Begin and end of what stands behind a 32-bit length."""
    start = at + 4
    end = start + int(_U32.unpack_from(data, at)[0])
    if end > len(data):
        raise ProtocolError("AMQP: a length in a table goes beyond its end")
    return start, end


def _text(data: bytes) -> str | bytes:
    """A long string may hold anything; what is not UTF-8 stays bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        value = fixed.unpack_from(data, at)[0]
        return (_EPOCH + timedelta(seconds=value) if kind == _TIME else value), at + fixed.size
    if kind == _BOOL:
        return data[at] != 0, at + 1
    if kind == _VOID:
        return None, at
    if kind == _DEC:
        places, digits = _DECIMAL.unpack_from(data, at)
        return Decimal(digits).scaleb(-places), at + _DECIMAL.size
    return _long_value(data, at, kind, depth)


def _long_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_STRING, _BYTES):
        start, end = _span(data, at)
        return (_text(data[start:end]) if kind == _STRING else data[start:end]), end
    if depth >= MAX_DEPTH:
        raise ProtocolError("AMQP: tables are nested too deep")
    if kind == _TABLE:
        return _table(data, at, depth + 1)
    if kind == _LIST:
        return _list(data, at, depth + 1)
    raise ProtocolError("AMQP: a type in a table is not known")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    at, end = _span(data, at)
    values = []
    while at < end:
        value, at = _value(data, at, depth)
        values.append(value)
    if at != end:
        raise ProtocolError("AMQP: a list does not end where it says")
    return values, end
