"""Requests: messages whose sender's acknowledgement is the recipient's reply (`options.reply`, seconds).

sender ─► route ─► ask ─► put ─► recipient ─► reply ─► its node ─► the asking node (Message.asker) ─► acknowledgement
                    │
                    └── time over, no recipient, all of them ended otherwise ─► {"error": …}

The first reply wins; one that comes later, or that nobody waits for, is refused to whoever replies. What goes from
node to node may be lost with the bus: then the time runs out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from smart_router.brokers.base import End
from smart_router.bus.base import MAX_DATA, Bus
from smart_router.clock import Deadlines
from smart_router.core.asking import Asking
from smart_router.core.sessions import Session
from smart_router.errors import Refused, RouterError
from smart_router.message import Message

__all__ = ["MAX_OPEN", "Answer", "Replies", "ReplyStatistics", "Request"]

MAX_OPEN: Final = 64
"""Requests of one session that wait (faults and limits, A9)."""

Answer = Callable[[bytes], None]
"""The asker's acknowledgement: takes one JSON object."""

_MAX_PAYLOAD: Final = MAX_DATA - 4096
"""Bytes of a reply to another node: what the bus carries, less what is around it."""

_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


class ReplyStatistics(NamedTuple):
    open: int
    asked: int
    replied: int
    timed_out: int
    refused: int  # no recipient is left that could reply
    late: int  # replies that nobody waits for


class _Replied(msgspec.Struct, array_like=True):
    id: str
    sender: str
    payload: bytes


class _Ended(msgspec.Struct, array_like=True):
    id: str
    state: str
    reason: str


class _Told(msgspec.Struct):
    """Of the router's answer to a sender."""

    id: str = ""
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    refused: list[str] = []


_replied: Final = msgspec.msgpack.Decoder(_Replied).decode
_ended: Final = msgspec.msgpack.Decoder(_Ended).decode
_told: Final = msgspec.json.Decoder(_Told).decode


class Request:
    """One that waits. `left`: recipients that may still reply; 0: not known. An owner for clock.Deadlines."""

    __slots__ = ("_expire", "answer", "deadline", "id", "left", "queued", "session")

    def __init__(self, session: Session, answer: Answer, deadline: float, expire: Callable[[Request], None]) -> None:
        self.session = session
        self.answer = answer
        self.deadline: float | None = deadline
        self.queued: float | None = None
        self.id = ""
        self.left = 0
        self._expire = expire

    def handle_timer(self, now: float) -> None:
        self._expire(self)


class Replies:
    """The requests of this node's sessions. `others`: how many other nodes there are to ask."""

    def __init__(self, bus: Bus, asking: Asking, deadlines: Deadlines) -> None:
        self.node = bus.node
        self._bus = bus
        self._asking = asking
        self._deadlines = deadlines
        self.others: Callable[[], int] = lambda: 0
        self._open: dict[str, list[Request]] = {}
        self._by_session: dict[str, set[Request]] = {}
        self._asked = self._replied = self._timed_out = self._refused = self._late = 0
        asking.answer("reply", self._on_reply)
        bus.listen("no-reply", self._on_ended)

    # the asker's side

    def check(self, session: Session, answer: Answer | None) -> None:
        """Raises Refused when this session can't ask now."""
        if answer is None:
            raise Refused("bad_message", "`options.reply` needs an acknowledgement, which becomes the reply.")
        if len(self._by_session.get(session.id, ())) >= MAX_OPEN:
            raise Refused("busy", f"{MAX_OPEN} requests wait for their replies: wait for one of them.", limit=MAX_OPEN)

    def ask(self, session: Session, seconds: float, answer: Answer, message_id: str = "", left: int = 0) -> Request:
        """Waits for the reply from now on, which goes to `answer`, as does everything else that may end it."""
        self._asked += 1
        request = Request(session, answer, self._deadlines.clock.monotonic() + seconds, self._time_out)
        request.left = left
        self._by_session.setdefault(session.id, set()).add(request)
        self._name(request, message_id)
        self._deadlines.watch(request)
        return request

    def _name(self, request: Request, message_id: str) -> None:
        request.id = message_id
        self._open.setdefault(message_id, []).append(request)

    def put(self, request: Request, answer: bytes) -> None:
        """The router's answer: safe in the mailboxes, which is no answer yet; or refused, by some or all of them."""
        if request.deadline is None:
            return
        told = _told(answer)
        if told.error is not msgspec.UNSET:
            request.left -= len(told.refused)
            if request.left <= 0 or not told.refused:
                self._finish(request, answer)
        elif told.id != request.id:  # it repeats an earlier one, whose reply it waits for
            self._take_out(request)
            self._name(request, told.id)

    def again(self, session: Session, seconds: float, answer: Answer, told: bytes) -> None:
        """A repeat of a request: it waits for the reply too, as long as it says."""
        try:
            self.check(session, answer)
        except Refused as error:
            answer(_encode({"error": error.as_dict()}))
        else:
            self.put(self.ask(session, seconds, answer), told)

    def abandon(self, session: Session) -> None:
        """Its connection is gone, and with it the acknowledgements that it waits for."""
        for request in self._by_session.pop(session.id, ()):
            request.deadline = None
            self._take_out(request)

    def _take_out(self, request: Request) -> None:
        waiting = self._open.get(request.id)
        if waiting is not None and request in waiting:
            waiting.remove(request)
            if not waiting:
                del self._open[request.id]

    def _finish(self, request: Request, answer: bytes) -> None:
        request.deadline = None
        self._take_out(request)
        mine = self._by_session.get(request.session.id)
        if mine is not None:
            mine.discard(request)
            if not mine:
                del self._by_session[request.session.id]
        request.answer(answer)

    def _fail(self, request: Request, error: RouterError) -> None:
        details = {"id": request.id} if request.id else {}
        self._finish(request, _encode({**details, "error": error.as_dict()}))

    def _time_out(self, request: Request) -> None:
        self._timed_out += 1
        self._fail(request, Refused("reply_timeout", "No reply came in time; the message may still be delivered."))

    def _reply_here(self, message_id: str, sender: str, payload: bytes) -> bool:
        requests = self._open.pop(message_id, None)
        if requests is None:
            return False
        answer = b'{"id":"%b","status":"replied","reply":%b,"from":"%b"}'
        told = answer % (message_id.encode(), payload, sender.encode())
        self._replied += 1
        for request in requests:
            self._finish(request, told)
        return True

    def _ended_here(self, message_id: str, state: str, reason: str) -> None:
        for request in list(self._open.get(message_id, ())):
            request.left -= 1
            if request.left == 0:
                self._refused += 1
                text = f"No recipient is left that could reply: the message ended as {state} ({reason})."
                self._fail(request, Refused("reply_refused", text))

    # the recipient's side

    def reply(self, message: Message, sender: str, payload: bytes) -> Awaitable[None] | None:
        """Takes it to whoever asked; None: done. Raises Refused, or the awaitable does: nobody waits for it."""
        if self._reply_here(_root(message.id), sender, payload):
            return None
        if self.others() > 0:
            return self._reply_elsewhere(message, sender, payload)
        raise self._nobody_waits(message)

    async def _reply_elsewhere(self, message: Message, sender: str, payload: bytes) -> None:
        if len(payload) > _MAX_PAYLOAD:
            raise Refused("too_large", f"A reply has at most {_MAX_PAYLOAD} bytes.", limit=_MAX_PAYLOAD)
        data = _pack(_Replied(_root(message.id), sender, payload))
        asker = message.asker
        if asker and asker != self.node and await self._asking.ask(asker, "reply", data):
            return
        # Its sender may have come to another node, and asked again there.
        if await self._asking.ask_any("reply", data, self.others()) is None:
            raise self._nobody_waits(message)

    def _nobody_waits(self, message: Message) -> Refused:
        self._late += 1
        text = "Nobody waits for this reply: it came too late, another one was first, or its sender is gone."
        return Refused("unknown_message", text, id=message.id)

    def ended(self, message: Message, state: End, reason: str) -> None:
        """A recipient that cannot reply any more."""
        asked = _root(message.id)
        if message.asker == self.node or not message.asker:
            self._ended_here(asked, state.value, reason)
        else:
            self._bus.send(message.asker, "no-reply", _pack(_Ended(asked, state.value, reason)))

    # from other nodes

    async def _on_reply(self, node: str, data: bytes) -> bytes | None:
        replied = _replied(data)
        return b"1" if self._reply_here(replied.id, replied.sender, replied.payload) else None

    def _on_ended(self, node: str, data: bytes) -> None:
        ended = _ended(data)
        self._ended_here(ended.id, ended.state, ended.reason)

    def statistics(self) -> ReplyStatistics:
        return ReplyStatistics(
            sum(map(len, self._open.values())),
            self._asked,
            self._replied,
            self._timed_out,
            self._refused,
            self._late,
        )


def _root(message_id: str) -> str:
    """All that one message's route publishes has its id, but for a suffix."""
    return message_id.partition(".")[0]
