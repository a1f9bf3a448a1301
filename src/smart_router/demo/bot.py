"""The bot of agent 456: an ordinary actor, a client of the node that starts it.

talk ─► talkback: an answer, and `re`: which message it answers
talk “human” ─► sessionrequest to the live chat, talkback with `handover`: from now on a person answers
log (a copy of what the person is told) ─► kept to itself
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog

from smart_router.client import Client, Closed, Message, Refused, Token, connect
from smart_router.errors import RouterError

__all__ = ["ACTOR", "LIVECHAT", "answer", "run_bot"]

ACTOR: Final = "agent/456/bot"
LIVECHAT: Final = "livechat/acme"

GREETING: Final = (
    "Hello! I am a bot, and I repeat what you say. Type “human” to speak to a person, "
    "and restart the router whenever you like: nothing gets lost."
)
HANDOVER: Final = "I have asked a person to take over. What you write now waits for them, even if nobody is there yet."
_GREETINGS: Final = frozenset(("hello", "hi", "hey", "hallo", "help"))

_log = structlog.get_logger("smart_router.demo")


class _Options(msgspec.Struct):
    id: str = ""


class _Envelope(msgspec.Struct):
    options: _Options = msgspec.field(default_factory=_Options)


async def run_bot(url: str, token: Token = None) -> None:
    """Answers until it is cancelled; `url` is the plain gateway's, `ws://127.0.0.1:8080/ws`. Comes back after cuts.

    Ends by itself, with the reason in the log, when coming back makes no sense (it may not be `agent/456/bot`).
    """
    try:
        async with connect(url, actor=ACTOR, token=token) as client:
            async for message in client:
                await _answer_or_log(client, message)
    except (Closed, RouterError) as error:
        _log.error("bot_stopped", reason=str(error))


async def _answer_or_log(client: Client, message: Message) -> None:
    try:
        await answer(client, message)
    except Refused as error:
        _log.warning("bot_refused", code=error.code, type=message.type, sender=message.sender)


async def answer(client: Client, message: Message) -> None:
    """Each answer has a key made of the message's: a message that comes twice is answered once."""
    payload = message.payload if isinstance(message.payload, dict) else {}
    text = payload.get("text")
    if message.type != "talk" or not isinstance(text, str) or not isinstance(message.ids.get("ui"), str):
        return
    ids = {"ui": message.ids["ui"], "agent": "agent/456"}
    read = msgspec.json.decode(message.raw, type=_Envelope).options.id
    if text.strip().lower() == "human":
        asked = {"text": text, "name": payload.get("name", "")}
        options = {"id": f"ask-{message.id}"}
        await client.send("sessionrequest", ids={**ids, "service": LIVECHAT}, payload=asked, options=options)
        told: dict[str, Any] = {"text": HANDOVER, "handover": LIVECHAT}
    else:
        told = {"text": reply_to(text)}
    await client.send("talkback", ids=ids, payload={**told, "re": read}, options={"id": f"re-{message.id}"})


def reply_to(text: str) -> str:
    """What the bot says to it."""
    words = text.strip()
    return GREETING if words.lower().rstrip("!.,") in _GREETINGS else f"You said: {words}"
