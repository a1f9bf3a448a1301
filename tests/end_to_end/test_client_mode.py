"""`ack = "client"` with the npm client: answers, refusals, silence, and the sender's view of each."""

from tests.end_to_end.actors import Actor, Actors
from tests.end_to_end.conftest import APPS

__all__: list[str] = []

CONFIG = APPS / "client-mode.toml"
ATTEMPTS = 3


def job(boss: Actor, worker: str, payload: object) -> str:
    answer = boss.request("job", {"ids": {"worker": worker}, "payload": payload})
    assert answer["status"] == "queued"
    return str(answer["id"])


def test_any_other_answer_confirms(actors: Actors, url: str, unique: str) -> None:
    boss, worker = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"worker/{unique}")
    for n, answer in enumerate([{}, None, "done", {"ack": True}, 0]):
        worker.do("answer", answer)
        job(boss, worker.id, n)
        event = worker.expect("event", type="job")
        assert event["asked"] is True
        assert len(event["args"]) == 1
    worker.close()
    again = actors.connect(url, worker.id)
    job(boss, worker.id, "the only one")
    assert again.receive("job")["payload"] == "the only one"


def test_nack_is_tried_again_and_in_the_end_given_up(actors: Actors, url: str, unique: str) -> None:
    boss, worker = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"worker/{unique}")
    worker.do("answer", {"nack": "not today"})
    message = job(boss, worker.id, "refused")
    attempts = [worker.receive("job") for _ in range(ATTEMPTS)]
    assert [attempt["id"] for attempt in attempts] == [message] * ATTEMPTS
    assert [attempt.get("redelivered", False) for attempt in attempts] == [False, True, True]
    worker.do("answer", {})
    job(boss, worker.id, "next")
    assert worker.receive("job")["payload"] == "next"


def test_no_answer_in_time_is_an_attempt(actors: Actors, url: str, unique: str) -> None:
    boss, worker = actors.connect(url, f"boss/{unique}"), actors.connect(url, f"worker/{unique}")
    message = job(boss, worker.id, "unanswered")
    attempts = [worker.receive("job") for _ in range(ATTEMPTS)]
    assert [attempt["id"] for attempt in attempts] == [message] * ATTEMPTS
    assert [attempt.get("redelivered", False) for attempt in attempts] == [False, True, True]


def test_a_lost_session_is_no_attempt(actors: Actors, url: str, unique: str) -> None:
    boss, worker = actors.connect(url, f"boss/{unique}"), f"worker/{unique}"
    message = job(boss, worker, "who takes it?")
    for visit in range(ATTEMPTS + 2):
        session = actors.connect(url, worker)
        heard = session.receive("job")
        assert heard["id"] == message
        assert heard.get("redelivered", False) is (visit > 0)
        session.close()
    last = actors.connect(url, worker)
    last.do("answer", {})
    assert last.receive("job")["id"] == message
