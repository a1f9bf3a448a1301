"""The checker on made-up records: each thing that it has to find, and what it must not take for it."""

from collections.abc import Iterable
from typing import Any

from faults.checker import Verdict, check, failures, longest_absence, slowest_return
from faults.records import Acknowledged, Connected, Invoked, Ready, Received, Record, Refused

__all__: list[str] = []

SENDER, RECEIVER = "received/s", "received/r"


def sent(n: int) -> Invoked:
    return Invoked(float(n), SENDER, n, RECEIVER, f"hash {n}")


def answered(n: int, id: str | None = None) -> Acknowledged:
    return Acknowledged(float(n), SENDER, n, id or f"id {n}")


def arrived(n: int, **other: Any) -> Received:
    values = {
        "receiver": RECEIVER,
        "id": f"id {n}",
        "origin": SENDER,
        "sender": SENDER,
        "n": n,
        "hash": f"hash {n}",
        "redelivered": False,
        "connection": 1,
    }
    return Received(t=float(n), **{**values, **other})


def verdict(*records: Record) -> Verdict:
    (only,) = check(records)
    return only


def through(numbers: Iterable[int]) -> list[Record]:
    return [record for n in numbers for record in (sent(n), answered(n), arrived(n))]


def test_all_arrived() -> None:
    found = verdict(*through(range(5)))
    assert (found.sent, found.acknowledged, found.received) == (5, 5, 5)
    assert failures([found]) == []


def test_acknowledged_and_not_received_is_lost() -> None:
    found = verdict(*through(range(3)), sent(3), answered(3))
    assert found.lost == 1
    assert failures([found]) == ["received: 1 lost"]


def test_a_class_without_a_promise_may_lose() -> None:
    assert failures([Verdict("memory", lost=9, misordered=9, unacknowledged=9)]) == []
    assert failures([Verdict("memory", forged=1)]) == ["memory: 1 forged"]


def test_received_without_an_answer_is_not_lost() -> None:
    found = verdict(sent(0), arrived(0))
    assert (found.lost, found.unacknowledged) == (0, 1)
    assert failures([found]) == ["received: 1 unacknowledged"]


def test_repeats_are_counted_by_how_they_are_marked() -> None:
    found = verdict(
        *through([0]),
        arrived(0, redelivered=True),
        arrived(0),
        arrived(0, id="another"),
        arrived(0, id="another", redelivered=True),
    )
    assert (found.received, found.repeated, found.unmarked, found.other_id) == (1, 4, 1, 1)
    assert failures([found]) == []


def test_a_first_arrival_after_a_later_message_is_misordered() -> None:
    found = verdict(sent(0), sent(1), answered(0), answered(1), arrived(1), arrived(0))
    assert failures([found]) == ["received: 1 misordered"]


def test_a_repeat_may_come_late() -> None:
    found = verdict(sent(0), sent(1), answered(0), answered(1), arrived(1), arrived(0, redelivered=True))
    assert (found.late, found.misordered) == (1, 0)


def test_what_was_refused_at_first_has_the_order_that_its_sender_gave_it() -> None:
    refusal = Refused(0.5, SENDER, 0, "busy", temporary=True)
    found = verdict(sent(0), sent(1), refusal, answered(1), arrived(1), answered(0), arrived(0))
    assert (found.misordered, found.refused) == (0, 0)


def test_refused_for_good_is_answered() -> None:
    found = verdict(sent(0), Refused(0.5, SENDER, 0, "too_large", temporary=False))
    assert (found.refused, found.unacknowledged, found.lost) == (1, 0, 0)


def test_forgeries() -> None:
    never_sent, changed = arrived(7), arrived(0, hash="other")
    elsewhere, false_sender = arrived(0, receiver="received/other"), arrived(0, origin="received/other")
    found = verdict(sent(0), answered(0), never_sent, changed, elsewhere, false_sender)
    assert (found.forged, found.received, found.lost) == (4, 0, 1)


def test_a_repeat_that_is_answered_otherwise() -> None:
    assert verdict(*through([0]), answered(0)).answers_differ == 0
    assert verdict(*through([0]), answered(0, "another")).answers_differ == 1


def test_the_slowest_return() -> None:
    greetings: list[Record] = [Connected(0.0, "a", recovered=False), Connected(1.0, "b", recovered=False)]
    assert slowest_return(greetings) is None
    back: list[Record] = [Ready(10.0, -9), Connected(10.5, "a", recovered=True), Connected(12.0, "b", recovered=False)]
    assert slowest_return([*greetings, *back, Connected(60.0, "b", recovered=False)]) == 2.0


def test_the_longest_absence_is_that_of_one_client() -> None:
    records: list[Record] = [
        Connected(1.0, "a", False),
        Connected(5.0, "b", False, 1.5),
        Connected(6.0, "a", True, 0.5),
    ]
    assert longest_absence(records) == 1.5
    assert longest_absence(records[:1]) is None
