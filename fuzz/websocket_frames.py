"""Fuzz target 4: WebSocket frames; the result must not depend on how they are cut.

    .venv/bin/python -m fuzz.websocket_frames [-max_total_time=60]      with atheris, if it is installed
    .venv/bin/python -m fuzz.websocket_frames [examples]                without it: Hypothesis

The first three bytes of an input say where the rest is cut.
"""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from fuzz.protocols_loop import run
from tests.gateways.test_websocket_cuts import ANY, BYTES, SOUND
from tests.gateways.websocket_model import Fed

__all__ = ["INPUTS", "one_input"]

INPUTS = st.builds(lambda cuts, data: cuts + data, st.binary(min_size=3, max_size=3), st.one_of(SOUND, ANY, BYTES))


def one_input(data: bytes) -> None:
    cuts, data = data[:3], data[3:]
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    whole, cut = Fed([data]), Fed(pieces)
    assert whole.events == cut.events, (whole.events, cut.events)
    assert whole.written == cut.written, (whole.written, cut.written)
    ends = [event for event in whole.events if event[0] == "closed"]
    assert len(ends) <= 1, whole.events
    assert not ends or whole.events[-1] is ends[0], "something was delivered after the end"


if __name__ == "__main__":
    run(one_input, INPUTS)
