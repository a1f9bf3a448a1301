"""Frames as a broker sends them, made by pamqp, and a receiver that writes down what it is told."""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from smart_router.protocols.amqp_decoder import Decoder, Got, OnDeliver
from smart_router.protocols.amqp_methods import Method
from smart_router.protocols.amqp_properties import Properties, encode_properties

__all__ = ["CONVERSATIONS", "Recorder", "content", "decode", "deliver", "marshal"]


class Recorder:
    """A channel's receiver. Deliveries to consumer `1` are its own, all others stray."""

    def __init__(self, number: int = 1, told: list[tuple[Any, ...]] | None = None) -> None:
        self.number = number
        self.told: list[tuple[Any, ...]] = [] if told is None else told
        self.consumers: dict[bytes, OnDeliver] = {b"1": self.deliver}

    def deliver(self, *delivery: Any) -> None:
        self.told.append((self.number, "deliver", *delivery))

    def stray(self, *delivery: Any) -> None:
        self.told.append((self.number, "stray", *delivery))

    def confirm(self, number: int, multiple: bool, ok: bool) -> None:
        self.told.append((self.number, "confirm", number, multiple, ok))

    def returned(self, *message: Any) -> None:
        self.told.append((self.number, "returned", *message))

    def got(self, got: Got, properties: bytes, body: bytes) -> None:
        self.told.append((self.number, "got", got, properties, body))

    def method(self, method: Method) -> None:
        self.told.append((self.number, method.name, *method.fields.values()))


def marshal(method: Any, channel: int = 1) -> bytes:
    return frame.marshal(method, channel)


def content(properties: bytes, data: bytes, channel: int = 1, largest: int = 131064) -> list[bytes]:
    """The header and body frames; pamqp's header, with the properties as they are."""
    plain = frame.marshal(header.ContentHeader(body_size=len(data)), channel)
    size = len(plain) - 8 - 2 + len(properties)
    head = plain[:3] + size.to_bytes(4, "big") + plain[7:19] + properties + b"\xce"
    pieces = [data[start : start + largest] for start in range(0, len(data), largest)]
    return [head, *(frame.marshal(body.ContentBody(piece), channel) for piece in pieces)]


def deliver(tag: int, properties: bytes, data: bytes, *, consumer: str = "1", channel: int = 1) -> bytes:
    method = commands.Basic.Deliver(consumer, tag, False, "agent", "agent/456/alice")
    return marshal(method, channel) + b"".join(content(properties, data, channel))


def decode(data: bytes, cuts: list[int] | None = None) -> list[tuple[Any, ...]]:
    """All that the channels 1 to 3 are told, in order; the bytes come cut at those places."""
    told: list[tuple[Any, ...]] = []
    decoder = Decoder({number: Recorder(number, told) for number in (1, 2, 3)})
    places = [0, *sorted(place % (len(data) + 1) for place in cuts or []), len(data)]
    for start, end in pairwise(places):
        decoder.receive(data[start:end])
    return told


_TAGS = st.integers(0, 2**63 - 1)
_NAMES = st.text("abc/.-", max_size=20)
_BODIES = st.binary(max_size=60)
_BOOLS = st.booleans()
_RAW = st.sampled_from(
    [
        encode_properties(properties)
        for properties in (Properties(), Properties(2, "id", headers={"n": 1}), Properties(priority=4, expiration="60"))
    ]
)
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


def _message(method: st.SearchStrategy[Any]) -> st.SearchStrategy[list[bytes]]:
    return st.builds(
        lambda begin, properties, data, largest: [marshal(begin), *content(properties, data, 1, largest)],
        method,
        _RAW,
        _BODIES,
        st.integers(1, 70),
    )


_PIECES: st.SearchStrategy[list[bytes]] = st.one_of(
    _message(st.builds(commands.Basic.Deliver, st.sampled_from(["1", "2", ""]), _TAGS, _BOOLS, _NAMES, _NAMES)),
    _message(st.builds(commands.Basic.Return, st.integers(0, 2**16 - 1), _NAMES, _NAMES, _NAMES)),
    _message(st.builds(commands.Basic.GetOk, _TAGS, _BOOLS, _NAMES, _NAMES, st.just(7))),
    st.builds(lambda tag, multiple: [marshal(commands.Basic.Ack(tag, multiple))], _TAGS, _BOOLS),
    st.builds(lambda tag, multiple: [marshal(commands.Basic.Nack(tag, multiple, False))], _TAGS, _BOOLS),
    st.just([marshal(commands.Queue.DeclareOk("q", 1, 2))]),
)


def _interleave(conversations: list[list[bytes]], order: list[int]) -> bytes:
    """The frames of several channels in any order of the channels; heartbeats between."""
    queues = [[_renumber(piece, number) for piece in pieces] for number, pieces in enumerate(conversations, 1)]
    out = []
    for pick in order:
        waiting = [queue for queue in queues if queue]
        if waiting:
            out.append(waiting[pick % len(waiting)].pop(0))
        if pick > 90:
            out.append(_HEARTBEAT)
    return b"".join([*out, *(piece for queue in queues for piece in queue)])


def _renumber(piece: bytes, channel: int) -> bytes:
    return piece[:1] + channel.to_bytes(2, "big") + piece[3:]


_CHANNEL = st.lists(_PIECES, max_size=4).map(lambda several: [piece for one in several for piece in one])
CONVERSATIONS = st.builds(
    _interleave, st.lists(_CHANNEL, min_size=1, max_size=3), st.lists(st.integers(0, 99), max_size=40)
)
"""What a broker may say on three channels."""
