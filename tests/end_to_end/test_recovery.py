"""Connection state recovery with the npm client, and binary payloads through a mailbox."""

import random

import pytest

from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actors, bytes_of
from tests.end_to_end.conftest import StartActors

__all__: list[str] = []

ATTACHMENTS = [b"", b"\x00\xff", random.Random(3).randbytes(20_000)]


@pytest.mark.parametrize("transports", [WEBSOCKET, POLLING, UPGRADE], ids=["websocket", "polling", "upgrade"])
def test_a_cut_is_recovered(actors: Actors, url: str, unique: str, transports: list[str]) -> None:
    """`socket.recovered`, the same sid, and each message once: the ones before the cut and the ones meanwhile."""
    name = f"ui/456/page-{unique}"
    page = actors.connect(url, name, transports=transports, identify=False, auth={"actor": name})
    bot = actors.connect(url, f"agent/456/bot-{unique}")
    first = page.expect("connect")
    assert first["recovered"] is False
    page.receive("hello")

    for n in range(30):
        bot.emit("talkback", {"ids": {"ui": name}, "payload": n})
        if n in (10, 20):
            assert bot.request("talkback", {"ids": {"ui": name}, "payload": "cut"})["status"] == "queued"
            page.do("cut")
            page.expect("disconnect")
            again = page.expect("connect")
            assert (again["recovered"], again["sid"]) == (True, first["sid"])
    heard = [page.receive("talkback") for _ in range(32)]
    assert [m["payload"] for m in heard if m["payload"] != "cut"] == list(range(30))


def test_who_leaves_is_not_recovered(actors: Actors, url: str, unique: str) -> None:
    """A DISCONNECT ends the session; what waits is delivered to the next all the same."""
    name = f"ui/456/page-{unique}"
    page = actors.connect(url, name, identify=False, auth={"actor": name})
    page.expect("connect")
    page.close()
    bot = actors.connect(url, f"agent/456/bot-{unique}")
    bot.request("talkback", {"ids": {"ui": name}, "payload": 1})
    back = actors.connect(url, name, identify=False, auth={"actor": name})
    assert back.expect("connect")["recovered"] is False
    assert back.receive("talkback")["payload"] == 1


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
@pytest.mark.parametrize(
    ("sender", "receiver"),
    [(WEBSOCKET, WEBSOCKET), (POLLING, WEBSOCKET), (UPGRADE, POLLING)],
    ids=["websocket to websocket", "polling to websocket", "upgrade to polling"],
)
def test_binary_through_a_mailbox(
    actors: Actors, url: str, unique: str, sender: list[str], receiver: list[str], away: bool
) -> None:
    name = f"ui/456/page-{unique}"
    page = None if away else actors.connect(url, name, transports=receiver)
    bot = actors.connect(url, f"agent/456/bot-{unique}", transports=sender)
    payload = {"files": [bytes_of(data) for data in ATTACHMENTS], "text": "beside"}
    assert bot.request("talkback", {"ids": {"ui": name}, "payload": payload})["status"] == "queued"
    page = page or actors.connect(url, name, transports=receiver)
    heard = page.receive("talkback")["payload"]
    assert [bytes_of(file) for file in heard["files"]] == ATTACHMENTS
    assert heard["text"] == "beside"


@pytest.mark.parametrize("package", ["socket.io-client-4.5", "socket.io-client-3.1"])
def test_older_clients_and_binary(start_actors: StartActors, url: str, unique: str, package: str) -> None:
    actors = start_actors(package)
    name = f"ui/456/page-{unique}"
    page, bot = actors.connect(url, name), actors.connect(url, f"agent/456/bot-{unique}")
    bot.emit("talkback", {"ids": {"ui": name}, "payload": bytes_of(ATTACHMENTS[2])})
    assert bytes_of(page.receive("talkback")["payload"]) == ATTACHMENTS[2]
    page.do("cut")
    page.expect("disconnect")
    assert bot.request("talkback", {"ids": {"ui": name}, "payload": "meanwhile"})["status"] == "queued"
    page.expect("connect")
    page.identify()
    assert page.receive("talkback")["payload"] == "meanwhile"
