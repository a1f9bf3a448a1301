"""Our Socket.IO codec against socket.io-parser 4.2.7 in Node: the same accepted, with the same value, or listed.

We accept nothing that Node refuses. What Node accepts and we refuse stands in KNOWN, with the reason.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from smart_router.errors import ProtocolError
from tests.protocols.socketio_packets import Reading, plain_value, read_packet, some_packet

if TYPE_CHECKING:
    from tests.conftest import StartNodeClient
    from tests.processes import LineProcess

FULL: Final = os.environ.get("SMART_ROUTER_FULL") == "1"
PACKETS: Final = 500_000 if FULL else 20_000
BATCH: Final = 500

HEAD = r"[0-6](?:[^-\[{]*-)?(?:/[^,]*(?:,|$))?"


class Difference(NamedTuple):
    """Packets that Node accepts and we refuse with `complaint`: those that match `pattern`, and why."""

    complaint: str
    pattern: re.Pattern[str]
    reason: str


def difference(complaint: str, pattern: str, reason: str) -> Difference:
    return Difference(complaint, re.compile(pattern, re.DOTALL), reason)


KNOWN: Final = (
    difference("unknown packet type", r"\s|$", "Node reads a blank, or nothing at all, as the number 0: CONNECT"),
    difference(
        "no such data in a packet of this type",
        r"[2-6](?:\d+-)?(?:/[^,]*,?)?\d*$",
        "Node passes on an event or acknowledgement without an array; its server then lacks the arguments",
    ),
    difference(
        "no such data in a packet of this type",
        HEAD + r"[\d\s]*\s",
        "Node reads blanks in an acknowledgement id as digits, and lets JSON begin with blanks; no client sends either",
    ),
    difference(
        "no such data in a packet of this type",
        HEAD + r"0\d",
        "an id with leading zeros has no one spelling, so it could not be given back as it came",
    ),
    difference(
        "no such data in a packet of this type",
        r"[0-6](?:[^-\[{]*-)?/[^,]*[\x00-\x1f\x7f]",
        "a control character in a namespace could end a packet of a polling answer in which the name comes back",
    ),
    difference("acknowledgement id is too large", HEAD + r"\d{16,}", "beyond 2^53 a client rounds it"),
    difference("acknowledgement without an id", r"[36](?:\d+-)?(?:/[^,]*,)?\[", "it acknowledges nothing"),
    difference("no acknowledgement of a packet of this type", HEAD + r"\d", "only events are acknowledged"),
    difference("wrong number of attachments", r"[56][^1-9-][^-]*-|[56]\d+[^\d-]+\d*-", "`01-`, `1e0-`: as above"),
    difference("namespace is too long", r".{0,12}/[^,]{127}", "128 bytes"),
    difference("JSON is nested too deeply", r".*\[{32}", "Node falls, but far deeper"),
    difference(
        "event is not a JSON array that begins with a name",
        HEAD + r"\d*\[\s*-?\d",
        "Node takes numbers for names; no handler of ours could have one",
    ),
    difference(
        "event is not a JSON array that begins with a name",
        r".*\\u[dD][89a-fA-F]",
        "a lone surrogate is no text: it has no UTF-8",
    ),
    difference("JSON is malformed", r".*\\u[dD][89a-fA-F]", "as above, in an acknowledgement"),
    difference(
        "placeholder is not written as one",
        r"[56].*(?:_|\\u005f)placeholder",
        "more keys, escaped or repeated keys or a fraction: it could not be numbered anew without harm",
    ),
)


def start_oracle(node_client: StartNodeClient) -> LineProcess:
    return node_client("parser/oracle.cjs")


def ask(oracle: LineProcess, packets: list[tuple[str, list[bytes]]]) -> list[Reading | None]:
    oracle.write_json([[text, [base64.b64encode(frame).decode() for frame in frames]] for text, frames in packets])
    return [None if answer is None else reading(answer) for answer in oracle.read_json()]


def reading(answer: dict[str, object]) -> Reading:
    kind, namespace, ack_id, data = (answer[key] for key in ("type", "nsp", "id", "data"))
    assert isinstance(kind, int)
    assert isinstance(namespace, str)
    assert ack_id is None or isinstance(ack_id, int | float)  # a large one comes as 1e+21
    return Reading(
        kind,
        namespace,
        None if ack_id is None else int(ack_id),
        plain_value(json.loads(data)) if isinstance(data, str) else None,
    )


def complaint_about(text: str, frames: list[bytes], expected: Reading | None) -> str | None:
    """What is wrong with our reading of a packet, given Node's; None if nothing is."""
    try:
        ours = read_packet(text, frames)
    except ProtocolError as error:
        if expected is None or any(known.complaint == error.message and known.pattern.match(text) for known in KNOWN):
            return None
        return f"only Node accepts {text!r}: {error.message}"
    if expected is None:
        return f"only we accept {text!r}"
    return None if ours == expected else f"{text!r}: {ours} instead of {expected}"


@pytest.mark.timeout(600 if FULL else 60)
def test_the_same_packets_are_accepted_with_the_same_value(node_client: StartNodeClient) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    oracle = start_oracle(node_client)
    accepted = 0
    for _ in range(PACKETS // BATCH):
        packets = [some_packet(chance) for _ in range(BATCH)]
        for (text, frames), expected in zip(packets, ask(oracle, packets), strict=True):
            complaint = complaint_about(text, frames, expected)
            assert complaint is None, f"{complaint}; {len(frames)} frames, seed {seed}"
            accepted += expected is not None
    assert accepted > PACKETS // 4, "too few good packets for the comparison to mean anything"


def test_every_known_difference_is_one(node_client: StartNodeClient) -> None:
    """A row that no packet needs any more would hide the next mistake."""
    examples = [
        ("", []),
        ("2", []),
        ('2 ["a"]', []),
        ('2007["a"]', []),
        ('0/\x01,{"a":1}', []),
        ('29007199254740993["a"]', []),
        ("3[]", []),
        ("01{}", []),
        ('51e0-["a"]', [b""]),
        ("0/" + "n" * 128, []),
        ("37" + "[" * 65 + "]" * 65, []),
        ("2[1]", []),
        ('2["\\ud800"]', []),
        ('37["\\ud800"]', []),
        ('51-["a",{"_placeholder":true,"num":0,"x":1}]', [b""]),
    ]
    assert len(examples) == len(KNOWN)
    for (text, frames), known, answer in zip(examples, KNOWN, ask(start_oracle(node_client), examples), strict=True):
        assert answer is not None, text
        with pytest.raises(ProtocolError, match=f"^{known.complaint}$"):
            read_packet(text, frames)
        assert known.pattern.match(text), known
