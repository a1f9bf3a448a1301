"""What waits for an actor that is away, in which order, and who of several gets it; with the npm client."""

import pytest

from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actor, Actors

__all__: list[str] = []


@pytest.mark.parametrize("transports", [WEBSOCKET, POLLING, UPGRADE], ids=["websocket", "polling", "upgrade"])
def test_offline_then_back(actors: Actors, url: str, unique: str, transports: list[str]) -> None:
    """What was sent to an actor that was never there, and to one that has left, comes in order after `hello`."""
    bot, page = f"agent/456/bot-{unique}", actors.connect(url, f"ui/456/page-{unique}", transports=transports)
    for visit in range(2):
        numbers = range(visit * 50, visit * 50 + 50)
        answers = [page.ask("talk", {"ids": {"agent": bot}, "payload": n}) for n in numbers]
        ids = [page.answer(number) for number in answers]
        assert all(answer["status"] == "queued" for answer in ids)

        back = actors.connect(url, bot, transports=transports, identify=False)
        back.receive("whoareyou")
        back.emit("iam", bot)
        first = back.expect("event")
        assert first["type"] == "hello", "deliveries start after hello"
        heard = [back.receive("talk") for _ in numbers]
        assert [message["payload"] for message in heard] == list(numbers)
        assert [message["id"] for message in heard] == [answer["id"] for answer in ids]
        back.close()


def test_order_under_four_senders(actors: Actors, url: str, unique: str) -> None:
    """Interleaved, with acknowledgements and without, over each transport: each sender's own order holds."""
    bot = actors.connect(url, f"agent/456/bot-{unique}")
    kinds = [WEBSOCKET, WEBSOCKET, POLLING, UPGRADE]
    pages = [
        actors.connect(url, f"ui/456/page-{number}-{unique}", transports=transports)
        for number, transports in enumerate(kinds)
    ]
    each = 100
    for n in range(each):
        for page in pages:
            message = {"ids": {"agent": bot.id}, "payload": n}
            if n % 2:
                page.emit("talk", message)
            else:
                page.ask("talk", message)
    heard: dict[str, list[int]] = {page.id: [] for page in pages}
    for _ in range(each * len(pages)):
        message = bot.receive("talk")
        heard[message["from"]].append(message["payload"])
    assert heard == {page.id: list(range(each)) for page in pages}


def test_a_shared_mailbox_gives_each_message_to_one(actors: Actors, url: str, unique: str) -> None:
    """Two agents at agent/457: each request goes to one, both get some, each sees its own in order."""
    agents = [actors.connect(url, f"agent/457/{name}-{unique}") for name in ("a", "b")]
    page = actors.connect(url, f"ui/457/page-{unique}")
    for n in range(20):
        page.request("talk", {"ids": {"agent": "agent/457"}, "payload": n})
    for agent in agents:
        page.request("talk", {"ids": {"agent": agent.id}, "payload": "end"})
    heard = [until_end(agent) for agent in agents]
    assert sorted(heard[0] + heard[1]) == list(range(20))
    assert all(own and own == sorted(own) for own in heard)
    for agent in agents:
        agent.close()


def until_end(actor: Actor) -> list[int]:
    payloads = iter(lambda: actor.receive("talk")["payload"], "end")
    return [int(payload) for payload in payloads]


def test_the_newest_session_of_an_actor_gets_its_messages(actors: Actors, url: str, unique: str) -> None:
    bot, page = f"agent/456/bot-{unique}", actors.connect(url, f"ui/456/page-{unique}")
    older, newer = actors.connect(url, bot), actors.connect(url, bot)
    page.request("talk", {"ids": {"agent": bot}, "payload": 1})
    assert newer.receive("talk")["payload"] == 1
    newer.close()
    page.request("talk", {"ids": {"agent": bot}, "payload": 2})
    assert older.receive("talk")["payload"] == 2


def test_a_senders_own_id_makes_its_repeat_harmless(actors: Actors, url: str, unique: str) -> None:
    """L3: one delivery, and the answer is the first one; also on another connection, and over another transport."""
    bot, page = actors.connect(url, f"agent/456/bot-{unique}"), f"ui/456/page-{unique}"
    message = {"ids": {"agent": f"agent/456/bot-{unique}"}, "payload": "once", "options": {"id": "my-1"}}
    answers = []
    for transports in (WEBSOCKET, WEBSOCKET, POLLING):
        sender = actors.connect(url, page, transports=transports)
        answers += [sender.request("talk", message), sender.request("talk", message)]
        sender.close()
    last = actors.connect(url, page)
    last.request("talk", {**message, "payload": "end", "options": {"id": "my-2"}})
    assert [bot.receive("talk")["payload"] for _ in range(2)] == ["once", "end"]
    assert all(answer == answers[0] for answer in answers), answers
