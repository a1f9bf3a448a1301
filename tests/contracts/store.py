"""What every Store promises. A provider's own test file names it and says how to open one.

class TestSqlite(StoreContract):
    @pytest.fixture
    async def opener(self, tmp_path) -> AsyncIterator[Opener]: ...
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from smart_router.errors import StorageError, StorageFailed, StorageFull
from smart_router.stores.base import DeadLetter, DeadLetterFilter, Revocation, Store, SubEndpoint, Watch

__all__ = ["EVERYTHING", "Fault", "Opener", "StoreContract", "letter"]

Opener = Callable[[], Awaitable[Store]]
"""Closes the store opened before, if any, and opens one on the same place."""

Fault = Callable[[Store, type[StorageError]], Awaitable[None]]
"""Makes the medium of an open store full (StorageFull) or broken (StorageFailed)."""

EVERYTHING = DeadLetterFilter()


def letter(number: int, **changes: object) -> DeadLetter:
    """The dead letter with this number: a later end than those with smaller ones."""
    plain = DeadLetter(
        id=f"id-{number:06}",
        address="ui/alice",
        type="talk",
        sender="agent/bot",
        state="failed",
        reason="attempts",
        at=1_000,
        ended_at=10_000 + number,
        attempts=3,
        deliveries=4,
        detail="refused by the recipient",
        body=b'{"id":"x"}',
    )
    return msgspec.structs.replace(plain, **changes)


def keys(letters: list[DeadLetter]) -> list[tuple[str, str, str]]:
    return [(one.id, one.address, one.type) for one in letters]


class StoreContract:
    """A subclass gives `opener` and `fault`."""

    @pytest.fixture
    async def store(self, opener: Opener) -> Store:
        return await opener()

    # Dead letters

    async def test_a_dead_letter_comes_back_as_it_was(self, store: Store) -> None:
        whole = letter(1, body=b"\x00\xff{}", attachments=(b"", b"\x00\x01", b"x" * 70_000), detail="“odd” \n text")
        await store.add_dead_letters([whole])
        assert await store.dead_letters(EVERYTHING) == [whole]

    async def test_none_is_none(self, store: Store) -> None:
        await store.add_dead_letters([])
        assert await store.dead_letters(EVERYTHING) == []
        assert await store.remove_dead_letters([]) == 0

    async def test_the_oldest_end_comes_first_and_pages_join_without_gap(self, store: Store) -> None:
        letters = [letter(number, ended_at=10_000 + number // 3) for number in range(25)]
        await store.add_dead_letters(letters[::-1])
        seen: list[DeadLetter] = []
        after = None
        while page := await store.dead_letters(EVERYTHING, after=after, limit=4):
            assert len(page) <= 4
            seen += page
            after = (page[-1].ended_at, page[-1].id, page[-1].address, page[-1].type)
        assert seen == letters

    async def test_one_message_may_end_badly_at_several_recipients_and_in_several_types(self, store: Store) -> None:
        letters = [letter(1, address=address, type=type_) for address in ("ui/a", "ui/b") for type_ in ("log", "talk")]
        await store.add_dead_letters(letters)
        assert await store.dead_letters(EVERYTHING) == letters

    async def test_a_repeat_replaces(self, store: Store) -> None:
        await store.add_dead_letters([letter(1), letter(2)])
        newer = letter(1, reason="ttl", state="expired", ended_at=20_000)
        await store.add_dead_letters([newer])
        assert await store.dead_letters(EVERYTHING) == [letter(2), newer]
        assert store.statistics().dead_letters == 2

    async def test_of_repeats_in_one_call_the_last_stays(self, store: Store) -> None:
        await store.add_dead_letters([letter(1, reason="ttl"), letter(2), letter(1, reason="overflow")])
        assert [one.reason for one in await store.dead_letters(EVERYTHING)] == ["overflow", "attempts"]
        assert store.statistics().dead_letters == 2

    @pytest.mark.parametrize(
        ("where", "numbers"),
        [
            (DeadLetterFilter(address="ui/bob"), [1]),
            (DeadLetterFilter(address="ui/%"), []),
            (DeadLetterFilter(sender="agent/other"), [2]),
            (DeadLetterFilter(state="expired"), [3]),
            (DeadLetterFilter(reason="ttl"), [3]),
            (DeadLetterFilter(type="log"), [4]),
            (DeadLetterFilter(id="id-000002"), [2]),
            (DeadLetterFilter(id="id-000002", address="ui/bob"), []),
            (DeadLetterFilter(since=10_003), [3, 4]),
            (DeadLetterFilter(until=10_001), [0, 1]),
            (DeadLetterFilter(since=10_001, until=10_003, address="ui/alice"), [2, 3]),
            (DeadLetterFilter(address="ui/bob", type="log"), []),
            (EVERYTHING, [0, 1, 2, 3, 4]),
        ],
        ids=str,
    )
    async def test_filters_hold_together(self, store: Store, where: DeadLetterFilter, numbers: list[int]) -> None:
        letters = [
            letter(0),
            letter(1, address="ui/bob"),
            letter(2, sender="agent/other"),
            letter(3, state="expired", reason="ttl"),
            letter(4, type="log"),
        ]
        await store.add_dead_letters(letters)
        assert await store.dead_letters(where) == [letters[number] for number in numbers]

    async def test_removal_is_by_the_whole_key(self, store: Store) -> None:
        letters = [letter(1), letter(1, address="ui/bob"), letter(2)]
        await store.add_dead_letters(letters)
        wanted = [("id-000001", "ui/bob", "talk"), ("id-000002", "ui/alice", "log"), ("nobody", "x", "y")]
        assert await store.remove_dead_letters(wanted) == 1
        assert await store.dead_letters(EVERYTHING) == [letters[0], letters[2]]
        assert store.statistics().dead_letters == 2

    async def test_what_has_ended_again_meanwhile_is_not_removed_by_its_earlier_end(self, store: Store) -> None:
        first, second, third = letter(1), letter(2), letter(3, address="ui/bob")
        await store.add_dead_letters([first, second, third])
        again = letter(2, ended_at=30_000)
        await store.add_dead_letters([again])
        ends = [(one.ended_at, one.id, one.address, one.type) for one in (first, second, third)]
        assert await store.remove_ended(ends) == 2
        assert await store.dead_letters(EVERYTHING) == [again]
        assert store.statistics().dead_letters == 1
        assert await store.remove_ended([]) == await store.remove_ended(ends) == 0

    async def test_many_ends_at_once(self, store: Store) -> None:
        letters = [letter(number) for number in range(1_500)]
        await store.add_dead_letters(letters)
        assert await store.remove_ended([(one.ended_at, one.id, one.address, one.type) for one in letters]) == 1_500
        assert store.statistics().dead_letters == 0

    async def test_many_at_once(self, store: Store) -> None:
        letters = [letter(number) for number in range(3_000)]
        await store.add_dead_letters(letters)
        assert keys(await store.dead_letters(EVERYTHING, limit=5_000)) == keys(letters)
        assert await store.remove_dead_letters(keys(letters)) == 3_000
        assert store.statistics().dead_letters == 0

    async def test_trimming_drops_by_age_then_by_number_and_counts_them(self, store: Store) -> None:
        letters = [letter(number) for number in range(10)]
        await store.add_dead_letters(letters)
        assert await store.trim_dead_letters(older_than=10_003, keep=5) == 5
        assert await store.dead_letters(EVERYTHING) == letters[5:]
        assert await store.trim_dead_letters(older_than=0, keep=5) == 0
        assert store.statistics()[:2] == (5, 5)
        assert await store.trim_dead_letters(older_than=0, keep=0) == 5
        assert store.statistics()[:2] == (0, 10)

    async def test_text_of_users_is_only_text(self, store: Store) -> None:
        nasty = letter(1, address="'; DROP TABLE dead_letters; --", type="\x00*?[]%_", sender='"\r\n#:')
        await store.add_dead_letters([nasty, letter(2)])
        assert await store.dead_letters(DeadLetterFilter(address=nasty.address, type=nasty.type)) == [nasty]
        assert await store.remove_dead_letters(keys([nasty])) == 1
        assert await store.dead_letters(EVERYTHING) == [letter(2)]

    # Revocations

    async def test_revocations_of_subjects_and_tokens(self, store: Store) -> None:
        of_subject, of_token = Revocation(at=5, subject="alice"), Revocation(at=6, jti="alice", expires_at=99)
        await store.add_revocation(of_subject)
        await store.add_revocation(of_token)
        assert sorted(await store.revocations(), key=lambda one: one.at) == [of_subject, of_token]
        assert store.statistics().revocations == 2

    @pytest.mark.parametrize(
        ("first", "second", "both"),
        [
            ((5, 50), (9, 90), (9, 90)),
            ((9, 90), (5, 50), (9, 90)),
            ((5, 0), (9, 90), (9, 0)),
            ((5, 50), (9, 0), (9, 0)),
        ],
    )
    async def test_a_repeated_revocation_never_becomes_weaker(
        self, store: Store, first: tuple[int, int], second: tuple[int, int], both: tuple[int, int]
    ) -> None:
        for at, expires_at in (first, second):
            await store.add_revocation(Revocation(at=at, subject="alice", expires_at=expires_at))
        assert await store.revocations() == [Revocation(at=both[0], subject="alice", expires_at=both[1])]
        assert store.statistics().revocations == 1

    async def test_expired_revocations_are_trimmed_and_those_for_ever_stay(self, store: Store) -> None:
        for number, expires_at in enumerate((0, 100, 101)):
            await store.add_revocation(Revocation(at=number, jti=f"t{number}", expires_at=expires_at))
        assert await store.trim_revocations(100) == 1
        assert sorted(one.jti or "" for one in await store.revocations()) == ["t0", "t2"]
        assert await store.trim_revocations(100) == 0
        assert store.statistics().revocations == 2

    # Sub-endpoints

    async def test_a_sub_endpoint_is_added_once(self, store: Store) -> None:
        assert await store.add_sub_endpoint(SubEndpoint("agent", "458", 7)) is True
        assert await store.add_sub_endpoint(SubEndpoint("agent", "458", 8)) is False
        assert await store.add_sub_endpoint(SubEndpoint("ui", "458", 9)) is True
        assert await store.sub_endpoints() == [SubEndpoint("agent", "458", 7), SubEndpoint("ui", "458", 9)]
        assert store.statistics().sub_endpoints == 2

    # Watches

    async def test_watches_come_back_in_order_as_they_were_put_last(self, store: Store) -> None:
        await store.put_watches([])
        await store.put_watches([Watch("ui/b", "ui/a", 5), Watch("ui/a", "ui/b", 5), Watch("ui/a", "ui/Ä\0\\", 6)])
        await store.put_watches([Watch("ui/a", "ui/b", 7, active=False)])
        assert await store.watches() == [
            Watch("ui/a", "ui/b", 7, active=False),
            Watch("ui/a", "ui/Ä\0\\", 6),
            Watch("ui/b", "ui/a", 5),
        ]

    async def test_of_two_states_of_a_watch_the_later_holds(self, store: Store) -> None:
        one, two = Watch("ui/a", "ui/b", 5), Watch("ui/a", "ui/b", 6, active=False)
        for order in ([one, two], [two, one], [two], [one]):
            await store.put_watches(order)
            assert await store.watches() == [two]
        await store.put_watches([Watch("ui/a", "ui/b", 6, active=True)])
        assert await store.watches() == [two]

    async def test_many_watches_at_once_and_what_is_over_is_trimmed(self, store: Store) -> None:
        every = [Watch(f"ui/{number:04}", "ui/b", number, active=number % 2 == 0) for number in range(3000)]
        await store.put_watches(every)
        assert await store.watches() == every
        assert await store.trim_watches(2000) == 1000
        assert await store.watches() == [one for one in every if one.active or one.at >= 2000]

    # The medium

    async def test_what_was_awaited_is_there_after_reopening(self, store: Store, opener: Opener) -> None:
        await store.add_dead_letters([letter(1), letter(2)])
        await store.add_revocation(Revocation(at=5, subject="alice", expires_at=50))
        await store.add_sub_endpoint(SubEndpoint("agent", "458", 7))
        await store.put_watches([Watch("ui/a", "ui/b", 5)])
        again = await opener()
        assert await again.dead_letters(EVERYTHING) == [letter(1), letter(2)]
        assert await again.watches() == [Watch("ui/a", "ui/b", 5)]
        assert await again.revocations() == [Revocation(at=5, subject="alice", expires_at=50)]
        assert await again.sub_endpoints() == [SubEndpoint("agent", "458", 7)]
        assert again.statistics() == (2, 0, 1, 1, True, "")

    async def test_calls_at_the_same_time_disturb_nobody(self, store: Store) -> None:
        await asyncio.gather(
            *(store.add_dead_letters([letter(number)]) for number in range(50)),
            *(store.add_sub_endpoint(SubEndpoint("agent", str(number), number)) for number in range(50)),
            *(store.dead_letters(EVERYTHING) for _ in range(20)),
            store.probe(),
        )
        assert store.statistics()[:4] == (50, 0, 0, 50)

    async def test_a_caller_that_gives_up_makes_no_count_wrong(self, store: Store) -> None:
        for number in range(20):
            adding = asyncio.ensure_future(store.add_dead_letters([letter(number)]))
            await asyncio.sleep(0)
            adding.cancel()
        await store.probe()
        assert store.statistics().dead_letters == len(await store.dead_letters(EVERYTHING))

    async def test_a_probe_leaves_nothing(self, store: Store) -> None:
        await store.probe()
        await store.probe()
        assert store.statistics() == (0, 0, 0, 0, True, "")

    async def test_after_closing_every_call_says_so(self, store: Store) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StorageError, match="closed"):
            await store.add_dead_letters([letter(1)])
        with pytest.raises(StorageError, match="closed"):
            await store.probe()

    @pytest.mark.parametrize("error", [StorageFull, StorageFailed])
    async def test_errors_of_the_medium_are_ours(self, store: Store, fault: Fault, error: type[StorageError]) -> None:
        await store.add_dead_letters([letter(1)])
        await fault(store, error)
        with pytest.raises(error):
            await store.add_dead_letters([letter(number, body=b"x" * 60_000) for number in range(2, 40)])
        statistics = store.statistics()
        assert (statistics.healthy, statistics.dead_letters) == (False, 1)
        assert statistics.reason
