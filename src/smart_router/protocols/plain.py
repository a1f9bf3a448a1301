"""Smart Router's own protocol, `smart-router.v1`: JSON text frames, both directions (docs/plain-protocol.md).

    bytes ──► decode_client ──► ClientFrame   (server)        ServerFrame ◄── decode_server ◄── bytes   (client)
    bytes ◄── encode(frame) / encode_deliver / encode_answer / encode_error    (a message stays the bytes it was)

A frame is the payload of one WebSocket text message, which the WebSocket layer has checked to be UTF-8.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from smart_router.errors import ProtocolError, RouterError
from smart_router.protocols.json_limits import MAX_DEPTH, check_json

__all__ = [
    "MAX_ATTACHMENTS",
    "MAX_NUMBER",
    "MAX_SERVER_DEPTH",
    "SUBPROTOCOL",
    "Ack",
    "Answer",
    "ClientFrame",
    "Deliver",
    "Error",
    "Hello",
    "Identify",
    "Nack",
    "Ping",
    "Pong",
    "Read",
    "Refresh",
    "Reply",
    "Resume",
    "Send",
    "ServerFrame",
    "WhoAreYou",
    "choose_subprotocol",
    "decode_client",
    "decode_server",
    "encode",
    "encode_answer",
    "encode_deliver",
    "encode_error",
    "encode_event",
]

SUBPROTOCOL: Final = "smart-router.v1"
MAX_ATTACHMENTS: Final = 10
MAX_NUMBER: Final = 2**53 - 1
MAX_SERVER_DEPTH: Final = 1000

_NULL: Final = msgspec.Raw(b"null")
Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Attachments: TypeAlias = tuple[bytes, ...]
"""Base64 on the wire (RFC 4648, 4), bytes here."""


class _FromClient(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Strict: a key that this version does not know is an error, never ignored."""


class Resume(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """`pid` of the last `hello`, `offset` of the last delivery taken; None: there was none."""

    pid: str
    offset: str | None = None


class Identify(_FromClient, tag="identify"):
    actor: str
    token: str | None = None
    acks: bool = False
    """The client will send `ack` {upto}; False: unknown until its first one."""
    resume: Resume | None = None
    daemon: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL
    lease: msgspec.Raw = _NULL
    """What the session says of itself, as it came: whoever registers it checks it."""


class Send(_FromClient, tag="send"):
    """`message`: a JSON object as it came, not looked into; `bytes(frame.message)` copies it out of the read buffer."""

    type: str
    message: msgspec.Raw
    ref: Number | None = None
    attachments: Attachments = ()


class Ack(_FromClient, tag="ack"):
    """Exactly one is over 0. `upto`: all deliveries to this number arrived; `n`: the application processed this one."""

    upto: Number = 0
    n: Number = 0
    reply: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """With `n`: to who asked for one."""

    def __post_init__(self) -> None:
        if (self.upto > 0) == (self.n > 0) or (self.upto and self.reply is not msgspec.UNSET):
            raise ValueError

    def answer(self) -> tuple[msgspec.Raw, ...]:
        """The acknowledgement of a Socket.IO client that says the same."""
        return () if self.reply is msgspec.UNSET else (msgspec.Raw(b'{"reply":%b}' % bytes(self.reply)),)


class Nack(_FromClient, tag="nack"):
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    reason: str = ""

    def answer(self) -> msgspec.Raw:
        """The same as the acknowledgement of a Socket.IO client says it: `{"nack": reason}`."""
        return msgspec.Raw(_encode({"nack": self.reason}))


class Read(_FromClient, tag="read"):
    """The application's user has read the message with this id."""

    id: str
    ref: Number | None = None

    def event(self) -> tuple[str, msgspec.Raw]:
        """Name and argument of the event by which a Socket.IO client says the same."""
        return "read", msgspec.Raw(_encode({"id": self.id}))


class Reply(_FromClient, tag="reply"):
    """To the message with the id `to`, whose sender waits for it."""

    to: str
    payload: msgspec.Raw
    ref: Number | None = None

    def event(self) -> tuple[str, msgspec.Raw]:
        """As `Read.event`."""
        return "reply", msgspec.Raw(_encode({"to": self.to, "payload": self.payload}))


class Refresh(_FromClient, tag="refresh"):
    token: str
    ref: Number | None = None


class Ping(_FromClient, tag="ping"):
    pass


class _FromServer(msgspec.Struct, tag_field="op", omit_defaults=True, gc=False):
    """Lenient: a client ignores the keys that it does not know."""


class WhoAreYou(_FromServer, tag="whoareyou"):
    """With `type`: gives back a `send` that came before `identify`."""

    type: str | None = None
    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    ref: Number | None = None


class Hello(_FromServer, tag="hello"):
    sid: str
    ack: str
    heartbeat: float | None = None
    limit: int | None = None
    pid: str | None = None
    recovered: bool | None = None


class Deliver(_FromServer, tag="deliver"):
    n: Number
    type: str
    message: msgspec.Raw
    offset: str | None = None
    ack: bool = False
    attachments: tuple[bytes, ...] = ()


class Answer(_FromServer, tag="answer"):
    ref: Number
    answer: msgspec.Raw


class Error(_FromServer, tag="error"):
    code: str
    message: str
    temporary: bool = False
    type: str | None = None
    address: str | None = None
    id: str | None = None
    limit: int | None = None


class Pong(_FromServer, tag="pong"):
    pass


ClientFrame: TypeAlias = Identify | Send | Ack | Nack | Read | Reply | Refresh | Ping
ServerFrame: TypeAlias = WhoAreYou | Hello | Deliver | Answer | Error | Pong

_CLIENT_OPS: Final = {
    "identify": "{actor, token?, acks?, resume?: {pid, offset?}, daemon?, status?, metadata?, lease?}",
    "send": "{type, message, ref?, attachments?: base64 texts}",
    "ack": "{upto} or {n, reply?}",
    "nack": "{n, reason?}",
    "read": "{id, ref?}",
    "reply": "{to, payload, ref?}",
    "refresh": "{token, ref?}",
    "ping": "{}",
}
_SERVER_OPS: Final = frozenset({"whoareyou", "hello", "deliver", "answer", "error", "pong"})


class _Head(msgspec.Struct, gc=False):
    op: str


_decode_client_frame: Final[Callable[[bytes], ClientFrame]] = msgspec.json.Decoder(ClientFrame).decode
_decode_server_frame: Final[Callable[[bytes], ServerFrame]] = msgspec.json.Decoder(ServerFrame).decode
_decode_head: Final = msgspec.json.Decoder(_Head).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeError)


def choose_subprotocol(offered: Sequence[str]) -> tuple[bool, str | None]:
    """(acceptable, what to answer): who offers none gets version 1 too; who offers only others is refused."""
    if SUBPROTOCOL in offered:
        return True, SUBPROTOCOL
    return not offered, None


def decode_client(data: bytes, max_depth: int = MAX_DEPTH, max_attachments: int = MAX_ATTACHMENTS) -> ClientFrame:
    """One frame of a client. ProtocolError with the rule that it breaks, for any bytes whatever."""
    check_json(data, max_depth)
    try:
        frame = _decode_client_frame(data)
    except _BROKEN as error:
        raise ProtocolError(_broken_rule(data)) from error
    if type(frame) is Send and frame.attachments:
        if len(frame.attachments) > max_attachments:
            raise ProtocolError(f"`send` takes at most {max_attachments} attachments")
        _check_placeholders(frame)
    return frame


def decode_server(data: bytes) -> ServerFrame | None:
    """One frame of a server; None for an `op` that this version does not know. ProtocolError for anything else.

    How deep a message may be nested is the server's setting; here only what the interpreter cannot follow is refused.
    """
    check_json(data, MAX_SERVER_DEPTH)
    try:
        return _decode_server_frame(data)
    except _BROKEN as error:
        op = _op(data)
        if op is not None and op not in _SERVER_OPS:
            return None
        raise ProtocolError("the server sent a frame that is not of smart-router.v1") from error


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """Any frame; for the hot ones of a server there are the joins below."""
    return _encode(frame)


def encode_deliver(
    n: int,
    type: str,
    message: bytes,
    *,
    offset: str | None = None,
    ack: bool = False,
    attachments: Sequence[bytes] = (),
) -> bytes:
    """`deliver`, around a message that is joined in as it is: an object, with `redelivered` in it where that is so."""
    extra = b',"ack":true' if ack else b""
    if offset is not None:
        extra += b',"offset":' + _encode(offset)
    if attachments:
        extra += b',"attachments":["' + b'","'.join(b2a_base64(part, newline=False) for part in attachments) + b'"]'
    return b'{"op":"deliver","n":%d,"type":%b%b,"message":%b}' % (n, _encode(type), extra, message)


def encode_answer(ref: int, answer: bytes) -> bytes:
    """`answer` to what came with `ref`: the JSON value that a Socket.IO client would get in its acknowledgement."""
    return b'{"op":"answer","ref":%d,"answer":%b}' % (ref, answer)


def encode_error(error: RouterError) -> bytes:
    """`error`, with the keys of `RouterError.as_dict`."""
    return _encode({"op": "error", **error.as_dict()})


def encode_event(op: str, fields: bytes = b"{}") -> bytes:
    """A frame of the server from the first argument of the Socket.IO event of the same name, a JSON object."""
    return b'{"op":"%b"%b%b' % (op.encode(), b"" if fields == b"{}" else b",", fields[1:])


def _op(data: bytes) -> str | None:
    try:
        return _decode_head(data).op
    except _BROKEN:
        return None


def _broken_rule(data: bytes) -> str:
    """What to write instead. Never the peer's bytes: the text goes to logs."""
    op = _op(data)
    if op is None:
        return "a frame is one JSON object with a text `op`"
    if op not in _CLIENT_OPS:
        return f"unknown `op`; there are {', '.join(_CLIENT_OPS)}"
    return f"`{op}` takes {_CLIENT_OPS[op]}, no other keys or types"


def _check_placeholders(frame: Send) -> None:
    """A placeholder without its attachment would end the connection of a Socket.IO client that gets it."""
    try:
        todo = [_decode_any(frame.message)]
    except _BROKEN as error:
        raise ProtocolError("the message is not JSON that can be read") from error
    while todo:
        value = todo.pop()
        if type(value) is list:
            todo.extend(value)
        elif type(value) is dict:
            number = value.get("num")
            if value.get("_placeholder") is True and not (type(number) is int and 0 <= number < len(frame.attachments)):
                raise ProtocolError("a placeholder's `num` is not the index of an attachment")
            todo.extend(value.values())
