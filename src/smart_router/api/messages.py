"""POST /messages: one message, sent over HTTP by an actor that has no connection for it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler

from smart_router.api.caller import Callers
from smart_router.api.queries import Address, Name, raw_body
from smart_router.core.senders import Senders
from smart_router.core.services import Core
from smart_router.core.sessions import Session
from smart_router.errors import CODES, ProtocolError, Refused
from smart_router.message import decode_envelope
from smart_router.protocols.json_limits import check_json
from smart_router.protocols.socketio_binary import check_placeholders, take_attachments

__all__ = ["MAX_WAIT", "message_routes"]

MAX_WAIT: Final = 30.0
"""Seconds for the route and the mailboxes; `options.reply` comes on top."""

_BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_OBJECT: Final = {"type": "object", "required": ["ids"], "properties": {"ids": {"type": "object"}}}


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`actor`: who sends it. `message`: as over a socket, `ids`, `metadata`, `payload`, `options`, own keys; it travels
    unchanged. `attachments`: base64; `{"_placeholder": true, "num": 0}` in the payload stands for the first."""

    actor: Address
    type: Name
    message: Annotated[Any, msgspec.Meta(extra_json_schema=_OBJECT)]
    attachments: list[bytes] = []


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """NewMessage, its message left as it came."""

    actor: Address
    type: Name
    message: msgspec.Raw
    attachments: list[bytes] = []


class Accepted(msgspec.Struct, frozen=True):
    """`queued`: safe in every mailbox that the route chose."""

    id: str
    status: str


class _Answer(msgspec.Struct):
    """The router's, to a sender."""

    error: Any = None
    id: Any = None
    status: Any = None
    refused: Any = None


_decode: Final = msgspec.json.Decoder(_Sent).decode
_answer: Final = msgspec.json.Decoder(_Answer).decode


def message_routes(core: Core, callers: Callers) -> list[HTTPRouteHandler]:
    senders = Senders(core)
    limits = core.settings.server.limits

    @post(
        "/messages",
        status_code=202,
        security=[{"token": []}],
        opt={"body": NewMessage, "headers": {"Idempotency-Key": "The message's `options.id`, if it has none."}},
        request_max_body_size=limits.body_bytes,
    )
    async def send(request: Request[Any, Any, Any]) -> Response[Accepted]:
        """Routes a message as if the actor had sent it over a connection, and answers when it is safe (202), or, with
        `options.reply`, when it is replied to (200, the reply).

        Where authentication is on, the token must be one with which the actor may connect, and the endpoint's rules for
        publishing hold. A repeat with the same `options.id`, or `Idempotency-Key`, is answered as the first.
        """
        identity = callers.anybody(request)
        sent = _checked(await raw_body(request), limits.nesting, limits.attachments)
        raw = _keyed(bytes(sent.message), request.headers.get("idempotency-key"))
        session = senders.session(sent.actor, identity)
        return _told(await _route(core, session, sent, raw))

    return [send]


def _checked(body: bytes, nesting: int, attachments: int) -> _Sent:
    """Refused `bad_message`."""
    try:
        check_json(body, nesting)
        sent = _decode(body)
        if len(sent.attachments) > attachments:
            raise Refused("bad_message", f"A message has at most {attachments} attachments.", limit=attachments)
        check_placeholders(b"[" + bytes(sent.message) + b"]", len(sent.attachments), nesting + 1)
    except ProtocolError as error:
        raise Refused("bad_message", f"In the body: {error.message}.") from None
    except msgspec.ValidationError as error:
        raise Refused("bad_message", f"In the body: {error}.") from None
    except _BROKEN:
        raise Refused("bad_message", "The body is not the JSON that is expected here.") from None
    return sent


def _keyed(raw: bytes, key: str | None) -> bytes:
    """The message with `key` as its `options.id`, if it has none. What is wrong with it the router will say."""
    if key is None:
        return raw
    key = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not (0 < len(key) <= 64 and key.isascii() and key.isprintable()):
        raise Refused("bad_message", "`Idempotency-Key` must have 1 to 64 printable ASCII characters.")
    try:
        if decode_envelope(raw).options.id is not None:
            return raw
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        options = msgspec.json.decode(fields.get("options", b"{}"), type=dict[str, msgspec.Raw])
    except _BROKEN:
        return raw
    options["id"] = msgspec.Raw(msgspec.json.encode(key))
    fields["options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


async def _route(core: Core, session: Session, sent: _Sent, raw: bytes) -> bytes:
    """The router's answer. Refused `busy` when it does not come."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def reply(answer: bytes) -> None:
        if not answered.done():
            answered.set_result(answer)

    attachments: tuple[bytes, ...] = ()
    if sent.attachments:
        raw, taken = take_attachments(raw, sent.attachments)
        attachments = tuple(taken)
    try:
        async with asyncio.timeout(MAX_WAIT + _reply_time(raw)):
            waits = core.router.handle(session, sent.type, raw, attachments, reply)
            if waits is not None:
                await waits
            return await answered
    except TimeoutError:
        if answered.done() and not answered.cancelled():  # the route was cut, and its message is a dead letter
            return answered.result()
        text = "It is not known yet whether the message is safe: send it again with the same `options.id`."
        raise Refused("busy", text) from None


def _reply_time(raw: bytes) -> float:
    """`options.reply`, as far as it makes sense."""
    try:
        wanted = decode_envelope(raw).options.reply
    except _BROKEN:
        return 0.0
    return min(max(wanted, 0.0), 3600.0) if wanted is not None else 0.0


def _told(raw: bytes) -> Response[Any]:
    answer = _answer(raw)
    error = answer.error
    if isinstance(error, dict) and error.get("code") in CODES:
        details = {name: value for name, value in error.items() if name not in ("code", "message", "temporary")}
        extra = {"id": answer.id, "refused": answer.refused}
        details |= {name: value for name, value in extra.items() if value is not None}
        raise Refused(error["code"], str(error.get("message", "")), **details)
    status = 202 if answer.status == "queued" else 200
    return Response(raw, status_code=status, media_type="application/json")
