"""Revocations: what is void stays void, over restarts, until it has expired."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from smart_router.core.access import Identity, token_hash
from smart_router.core.revocations import Revocations
from smart_router.errors import Refused, StorageFull
from smart_router.stores.base import Revocation


class WallClock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def monotonic(self) -> float:
        return self.now / 1000

    def wall_ms(self) -> int:
        return self.now


class Memory:
    """The part of a store, over restarts. `full`: it refuses to write."""

    def __init__(self) -> None:
        self.kept: list[Revocation] = []
        self.full = False

    async def add_revocation(self, revocation: Revocation) -> None:
        if self.full:
            raise StorageFull("no room")
        self.kept.append(revocation)

    async def revocations(self) -> list[Revocation]:
        return self.kept

    async def trim_revocations(self, now: int) -> int:
        before = len(self.kept)
        self.kept = [one for one in self.kept if not 0 < one.expires_at <= now]
        return before - len(self.kept)


def identity(subject: str, *, issued_at: int = 0, jti: str | None = None) -> Identity:
    return Identity(subject, {}, frozenset(), token_hash(subject), issued_at=issued_at, jti=jti)


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def revocations(memory: Memory, clock: WallClock) -> Revocations:
    return Revocations(memory, clock)


async def test_of_a_subject_what_was_issued_until_then(revocations: Revocations, clock: WallClock) -> None:
    await revocations.revoke(subject="alice")
    assert revocations.is_revoked(identity("alice", issued_at=clock.now))
    assert revocations.is_revoked(identity("alice")), "a token that does not say when counts as old"
    assert not revocations.is_revoked(identity("alice", issued_at=clock.now + 1))
    assert not revocations.is_revoked(identity("bob"))
    assert revocations.statistics() == (1, 2)


async def test_of_one_token(revocations: Revocations, clock: WallClock) -> None:
    await revocations.revoke(jti="t1")
    assert revocations.is_revoked(identity("alice", jti="t1", issued_at=clock.now + 1))
    assert not revocations.is_revoked(identity("alice", jti="t2"))
    assert not revocations.is_revoked(identity("t1")), "a subject is not a token id"


@pytest.mark.parametrize("wrong", [{}, {"subject": "a", "jti": "b"}, {"subject": ""}, {"jti": ""}], ids=str)
async def test_exactly_one_of_both(revocations: Revocations, wrong: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        await revocations.revoke(subject=wrong.get("subject"), jti=wrong.get("jti"))
    assert refused.value.code == "bad_message"


async def test_it_survives_a_restart(revocations: Revocations, memory: Memory, clock: WallClock) -> None:
    await revocations.revoke(subject="alice")
    again = Revocations(memory, clock)
    await again.open()
    assert again.is_revoked(identity("alice"))


async def test_listeners_hear_of_it_once_it_is_in_force(revocations: Revocations, memory: Memory) -> None:
    heard: list[tuple[Revocation, bool, int]] = []
    revocations.listen(lambda one: heard.append((one, revocations.is_revoked(identity("alice")), len(memory.kept))))
    revocation = await revocations.revoke(subject="alice")
    assert heard == [(revocation, True, 1)]


async def test_a_listener_that_raises_disturbs_nobody(revocations: Revocations) -> None:
    heard: list[Revocation] = []

    def broken(_: Revocation) -> None:
        raise RuntimeError("broken")

    revocations.listen(broken)
    revocations.listen(heard.append)
    with capture_logs() as logs:
        await revocations.revoke(subject="alice")
    assert len(heard) == 1
    assert [one["event"] for one in logs] == ["revocation_listener_failed"]


async def test_another_nodes_is_applied_and_not_written(revocations: Revocations, memory: Memory) -> None:
    heard: list[Revocation] = []
    revocations.listen(heard.append)
    revocations.apply(Revocation(at=5, subject="alice"))
    assert revocations.is_revoked(identity("alice", issued_at=5))
    assert (len(heard), memory.kept) == (1, [])


async def test_when_it_cannot_be_written_nothing_changes(revocations: Revocations, memory: Memory) -> None:
    memory.full = True
    with pytest.raises(StorageFull):
        await revocations.revoke(subject="alice")
    assert not revocations.is_revoked(identity("alice"))


async def test_an_expired_one_does_not_count_and_goes(
    revocations: Revocations, clock: WallClock, memory: Memory
) -> None:
    await revocations.revoke(subject="alice", expires_at=clock.now + 10)
    await revocations.revoke(subject="bob")
    clock.now += 9
    assert revocations.is_revoked(identity("alice"))
    clock.now += 1
    assert not revocations.is_revoked(identity("alice"))
    assert await revocations.trim() == 1
    assert (len(revocations), len(memory.kept)) == (1, 1)


async def test_there_are_only_so_many(memory: Memory, clock: WallClock) -> None:
    revocations = Revocations(memory, clock, limit=2)
    await revocations.revoke(subject="alice")
    await revocations.revoke(subject="bob", expires_at=clock.now + 10)
    with pytest.raises(Refused) as refused:
        await revocations.revoke(subject="carol")
    assert (refused.value.code, refused.value.temporary) == ("busy", True)
    await revocations.revoke(subject="alice")
    clock.now += 10
    await revocations.revoke(subject="carol")
    assert len(revocations) == 2


def finished(call: Callable[[], object]) -> None:
    """Runs a coroutine that never waits."""
    coroutine = call()
    with pytest.raises(StopIteration):
        coroutine.send(None)  # type: ignore[attr-defined]


SUBJECTS = st.sampled_from(["alice", "bob"])
TOKENS = st.sampled_from(["t1", "t2", "t3"])


class RevocationMachine(RuleBasedStateMachine):
    """Two nodes with one store between them, a clock that jumps, restarts. Model: the list of all that was revoked."""

    @initialize()
    def start(self) -> None:
        self.clock = WallClock()
        self.memory = Memory()
        self.telling = False
        self.nodes = [Revocations(self.memory, self.clock) for _ in range(2)]
        for node, other in (self.nodes, self.nodes[::-1]):
            node.listen(self._tell(other))
        self.model: list[Revocation] = []
        self.issued: list[Identity] = []

    def _tell(self, other: Revocations) -> Callable[[Revocation], None]:
        """The bus; what comes back to the sender is known already."""

        def tell(revocation: Revocation) -> None:
            if not self.telling:
                self.telling = True
                other.apply(revocation)
                self.telling = False

        return tell

    @rule(subject=SUBJECTS, jti=st.none() | TOKENS)
    def issue(self, subject: str, jti: str | None) -> None:
        self.issued.append(identity(subject, issued_at=self.clock.now, jti=jti))

    @rule(node=st.integers(0, 1), subject=SUBJECTS, life=st.sampled_from([0, 100, 5_000]))
    def revoke_subject(self, node: int, subject: str, life: int) -> None:
        expires_at = self.clock.now + life if life else 0
        finished(lambda: self.nodes[node].revoke(subject=subject, expires_at=expires_at))
        self.model.append(Revocation(self.clock.now, subject, None, expires_at))

    @rule(node=st.integers(0, 1), jti=TOKENS, life=st.sampled_from([0, 100]))
    def revoke_token(self, node: int, jti: str, life: int) -> None:
        expires_at = self.clock.now + life if life else 0
        finished(lambda: self.nodes[node].revoke(jti=jti, expires_at=expires_at))
        self.model.append(Revocation(self.clock.now, None, jti, expires_at))

    @rule(milliseconds=st.sampled_from([1, 99, 100, 3_600_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.now += milliseconds

    @rule(node=st.integers(0, 1))
    def trim(self, node: int) -> None:
        finished(self.nodes[node].trim)

    @rule(node=st.integers(0, 1))
    def restart(self, node: int) -> None:
        self.nodes[node] = Revocations(self.memory, self.clock)
        finished(self.nodes[node].open)
        self.nodes[node].listen(self._tell(self.nodes[1 - node]))
        self.nodes[1 - node]._listeners[:] = [self._tell(self.nodes[node])]

    @invariant()
    def every_node_refuses_what_is_in_force(self) -> None:
        for one in getattr(self, "issued", []):
            for node in self.nodes:
                assert node.is_revoked(one) >= self._in_force(one)
                assert node.is_revoked(one) <= self._ever(one)

    def _concerned(self, one: Identity) -> list[Revocation]:
        by_subject = [each for each in self.model if each.subject == one.subject and each.at >= one.issued_at]
        return by_subject + [each for each in self.model if one.jti is not None and each.jti == one.jti]

    def _in_force(self, one: Identity) -> bool:
        return any(not 0 < each.expires_at <= self.clock.now for each in self._concerned(one))

    def _ever(self, one: Identity) -> bool:
        return bool(self._concerned(one))


RevocationMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRevocationMachine = RevocationMachine.TestCase
