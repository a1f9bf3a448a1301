"""The worked example (specs: actor routing, Routes) with the Socket.IO client from npm, over each of its transports."""

from typing import Any

import pytest

from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actor, Actors
from tests.end_to_end.conftest import StartActors

__all__: list[str] = []

pytestmark = pytest.mark.smoke

CLIENTS = {
    "websocket only": ("socket.io-client", WEBSOCKET),
    "polling only": ("socket.io-client", POLLING),
    "polling, then upgrade": ("socket.io-client", UPGRADE),
    "version 4.5": ("socket.io-client-4.5", UPGRADE),
    "version 3.1": ("socket.io-client-3.1", UPGRADE),
}


class Cast:
    """The bot, one of its user's pages, and a person of the live-chat provider."""

    def __init__(self, actors: Actors, url: str, transports: list[str], unique: str) -> None:
        self.bot = actors.connect(url, f"agent/456/bot-{unique}", transports=transports)
        self.page = actors.connect(url, f"ui/456/page-{unique}", transports=transports)
        self.person = actors.connect(url, f"livechat/acme/person-{unique}", transports=transports)

    @property
    def ids(self) -> dict[str, str]:
        return {"ui": self.page.id, "agent": self.bot.id, "service": "livechat/acme"}

    def close(self) -> None:
        for actor in (self.bot, self.page, self.person):
            actor.close()


@pytest.mark.parametrize(("package", "transports"), CLIENTS.values(), ids=CLIENTS)
def test_the_worked_example(
    start_actors: StartActors, url: str, package: str, transports: list[str], unique: str
) -> None:
    cast = Cast(start_actors(package), url, transports, unique)
    if transports == UPGRADE:
        cast.page.do("upgraded")
        assert cast.page.expect("upgraded")["transport"] == "websocket"

    user_and_bot_talk(cast)
    bot_asks_for_a_person(cast)
    user_and_person_talk(cast)
    echo_comes_back(cast)
    cast.close()


def user_and_bot_talk(cast: Cast) -> None:
    answer = cast.page.request("talk", {"ids": cast.ids, "payload": {"text": "hello"}})
    heard = cast.bot.receive("talk")
    assert answer == {"id": heard["id"], "status": "queued"}
    assert as_sent(heard, cast.page) == {"ids": cast.ids, "payload": {"text": "hello"}}

    cast.bot.emit("talkback", {"ids": cast.ids, "payload": {"text": "hi"}, "of the sender": [1]})
    assert as_sent(cast.page.receive("talkback"), cast.bot) == {
        "ids": cast.ids,
        "payload": {"text": "hi"},
        "of the sender": [1],
    }


def bot_asks_for_a_person(cast: Cast) -> None:
    cast.bot.emit("sessionrequest", {"ids": cast.ids})
    assert as_sent(cast.person.receive("sessionrequest"), cast.bot) == {"ids": cast.ids}


def user_and_person_talk(cast: Cast) -> None:
    message = {"ids": cast.ids, "metadata": {"service": True}, "payload": {"text": "a person, please"}}
    cast.page.emit("talk", message)
    talk, log = cast.person.receive("talk"), cast.bot.receive("log")
    assert as_sent(talk, cast.page) == as_sent(log, cast.page) == message
    assert talk["id"] == log["id"], "all that one message's action publishes carries its id"

    cast.person.emit("talkback", {"ids": cast.ids, "payload": {"text": "yes?"}})
    assert cast.page.receive("talkback")["from"] == cast.person.id


def echo_comes_back(cast: Cast) -> None:
    cast.page.emit("echo", {"ids": {"default": cast.page.id}, "payload": "à bientôt ☃"})
    assert cast.page.receive("echo")["payload"] == "à bientôt ☃"


def as_sent(message: dict[str, Any], sender: Actor) -> dict[str, Any]:
    """The message without what the router adds, which is looked at here."""
    rest = dict(message)
    assert rest.pop("from") == sender.id
    assert isinstance(rest.pop("id"), str)
    assert isinstance(rest.pop("at"), int)
    assert "redelivered" not in rest
    return rest
