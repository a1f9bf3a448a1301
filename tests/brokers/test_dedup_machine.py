"""The dedup window against a model: no two effects of one key in the window, bounded memory, no refusal is kept."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smart_router.brokers.base import PutResult
from smart_router.brokers.dedup import DedupWindow, Key
from smart_router.errors import Refused

KEYS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", "3", "4"]))
WINDOW, LIMIT = 120.0, 5


class DedupMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.window = DedupWindow(WINDOW, LIMIT)
        self.effects: dict[Key, float] = {}
        self.order: list[Key] = []
        self.running: dict[Key, int] = {}
        self.told = 0

    @rule(key=KEYS)
    def begin(self, key: Key) -> None:
        if self.window.wait(key, self.tell):
            assert key in self.running
            self.running[key] += 1
            return
        known = self.window.answer(key, self.now)
        kept = key in self.order[-LIMIT:] and self.now - self.effects[key] < WINDOW
        assert (known is not None) == kept
        if known is None:
            self.window.begin(key)
            self.running[key] = 0

    def tell(self, result: PutResult) -> None:
        self.told += 1

    @rule(key=KEYS, refused=st.booleans())
    def finish(self, key: Key, *, refused: bool) -> None:
        if key not in self.running:
            return
        result = PutResult({"x": Refused("busy", "later")} if refused else {})
        repeats = self.window.finish(key, b"answer", result, self.now)
        assert len(repeats) == self.running.pop(key)
        if not refused:
            self.effects[key] = self.now
            self.order = [other for other in self.order if other != key] + [key]

    @rule(seconds=st.sampled_from([1.0, 60.0, 121.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """What a journal gives back: the answers, oldest first; nothing that was on its way."""
        self.window = DedupWindow(WINDOW, LIMIT)
        for key in self.order:
            self.window.remember(key, b"answer", self.effects[key])
        self.window.answer(("", ""), self.now)
        self.running.clear()

    @invariant()
    def bounded(self) -> None:
        assert len(self.window) <= LIMIT


TestDedupMachine = DedupMachine.TestCase
TestDedupMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
