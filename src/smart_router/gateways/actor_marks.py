"""What an actor says of a message that it was given: `read` {"id"}, `reply` {"to", "payload"}.

Messages may have these types too: they have `ids`, a mark has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from smart_router.core.marks import Marks
from smart_router.core.sessions import Session
from smart_router.gateways.actor_data import read_argument

__all__ = ["FORM", "is_mark", "reply_of", "say"]

FORM: Final = {"read": '{"id": message id}', "reply": '{"to": message id, "payload": JSON without binary parts}'}
_NULL: Final = msgspec.Raw(b"null")


class _Shape(msgspec.Struct):
    """Only what of it is there."""

    ids: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    reply: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Read(msgspec.Struct):
    id: str


class _Reply(msgspec.Struct):
    to: str
    payload: msgspec.Raw = _NULL


_shape: Final = msgspec.json.Decoder(_Shape).decode


def is_mark(name: str, args: Sequence[msgspec.Raw]) -> bool:
    """False: a message like any other, and the router's to judge."""
    if name not in FORM or not args:
        return False
    try:
        return _shape(args[0]).ids is msgspec.UNSET
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


async def say(marks: Marks, session: Session, name: str, args: Sequence[msgspec.Raw]) -> None:
    """Returns when the receipt is on its way, or the reply with whoever asked. Raises Refused."""
    if session.rate is not None:
        session.rate.take(sum(map(len, args)))
    if name == "read":
        waits = marks.read(session, read_argument(args, _Read, FORM[name]).id)
    else:
        reply = read_argument(args, _Reply, FORM[name])
        waits = marks.reply(session, reply.to, bytes(reply.payload))
    if waits is not None:
        await waits


def reply_of(args: Sequence[msgspec.Raw]) -> bytes | None:
    """The reply in an application's answer to a delivery: `{"reply": JSON}`."""
    if not args or not bytes(args[0]).startswith(b"{"):
        return None
    try:
        reply = _shape(args[0]).reply
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if reply is msgspec.UNSET else bytes(reply)
