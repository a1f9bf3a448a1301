"""What every Directory promises. A provider's own test file says how to open one (tests/directory/test_bus.py)."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol

import msgspec
import pytest

from smart_router.directory.base import Directory, NodeRecord, SessionRecord, SessionState
from smart_router.errors import BrokerAway

__all__ = ["Bench", "DirectoryContract", "Node", "Place"]

PATIENCE_LEASES = 14


class Place(Protocol):
    """One server, or bus, with any number of nodes, or with one. `lease`: seconds after which a silent node is gone."""

    lease: float
    many_nodes: bool

    def make(self, node: str, installation: str = "") -> Directory:
        """A directory that is not open."""

    async def open(self, directory: Directory, me: NodeRecord) -> None:
        """Opens it, and before it what it stands on."""

    async def crash(self, directory: Directory) -> None:
        """Ends it as kill -9 would: the others are told nothing."""

    async def cut(self, directory: Directory) -> None:
        """From now on this node does not reach the others, nor they it. An open one has noticed when this returns."""

    async def heal(self, directory: Directory) -> None: ...

    async def lose_everything(self) -> None:
        """The server forgets what it has."""

    async def step(self) -> None:
        """A small part of a lease passes."""

    def now(self) -> float:
        """In the seconds of `lease`."""


class Node:
    """A directory, and what it was told."""

    def __init__(self, directory: Directory, record: NodeRecord) -> None:
        self.directory = directory
        self.record = record
        self.lives = False
        self.nodes_told: list[tuple[str, bool]] = []
        self.sessions_told: list[tuple[str, bool]] = []
        directory.on_node = lambda node, gone: self.nodes_told.append((node.id, gone))
        directory.on_session = lambda session, gone: self.sessions_told.append((session.id, gone))

    @property
    def id(self) -> str:
        return self.record.id

    def session(self, id_: str, actor: str = "ui/456/alice", since: int = 1_000, **more: str) -> SessionRecord:
        endpoint = actor.rpartition("/")[0] or actor
        return SessionRecord(id_, actor, endpoint, self.id, more.get("subject", actor), since)

    async def add(self, id_: str, actor: str = "ui/456/alice", since: int = 1_000) -> list[str]:
        """The ids of the actor's sessions elsewhere."""
        return [one.id for one in await self.directory.add(self.session(id_, actor, since))]

    async def everything(self) -> list[SessionRecord]:
        return await self.directory.sessions(limit=100_000)

    async def ids(self) -> list[str]:
        return [one.id for one in await self.everything()]

    async def actors_sessions(self, actor: str = "ui/456/alice") -> list[str]:
        return [one.id for one in await self.directory.of_actor(actor)]

    async def node_ids(self) -> list[str]:
        return [record.id for record in await self.directory.nodes()]


class Bench:
    """Nodes on one place. All that live report at each step."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.all: list[Node] = []
        self._numbers = itertools.count(1)

    def made(self, installation: str = "") -> Node:
        number = next(self._numbers)
        record = NodeRecord(f"node-{number}", ("gateway", "router"), "0.1.0", 1_000 + number)
        node = Node(self.place.make(record.id, installation), record)
        self.all.append(node)
        return node

    async def node(self, installation: str = "") -> Node:
        node = self.made(installation)
        await self.open(node)
        return node

    async def open(self, node: Node) -> None:
        await self.place.open(node.directory, node.record)
        node.lives = True

    async def nodes(self, count: int) -> list[Node]:
        if not self.place.many_nodes:
            pytest.skip("this directory has one node")
        return [await self.node() for _ in range(count)]

    async def crash(self, node: Node) -> None:
        node.lives = False
        await self.place.crash(node.directory)

    def report(self) -> None:
        for node in self.all:
            if node.lives:
                node.directory.report(node.record)

    async def step(self) -> None:
        self.report()
        await self.place.step()

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Returns when it holds; fails the test when it does not come to hold."""
        end = self.place.now() + PATIENCE_LEASES * self.place.lease
        while not await condition():
            assert self.place.now() < end, "it does not come to hold"
            await self.step()

    async def becomes(self, wanted: object, what: Callable[[], Awaitable[object]]) -> None:
        """Until it is what is wanted; says what it was if it never is."""
        got: list[object] = []

        async def condition() -> bool:
            got[:] = [await what()]
            return got[0] == wanted

        try:
            await self.until(condition)
        except AssertionError:
            assert got[0] == wanted
            raise

    async def all_become(self, wanted: object, what: Callable[[Node], Awaitable[object]]) -> None:
        for node in self.all:
            if node.lives:
                await self.becomes(wanted, lambda node=node: what(node))  # type: ignore[misc]

    async def pass_leases(self, count: float) -> None:
        end = self.place.now() + count * self.place.lease
        while self.place.now() < end:
            await self.step()

    async def close(self) -> None:
        for node in self.all:
            await node.directory.close()


def in_order(sessions: Iterable[SessionRecord]) -> list[SessionRecord]:
    return sorted(sessions, key=lambda one: (one.actor, one.id))


class DirectoryContract:
    """A subclass gives the fixture `place`."""

    @pytest.fixture
    async def bench(self, place: Place) -> AsyncIterator[Bench]:
        bench = Bench(place)
        yield bench
        await bench.close()

    # One node

    async def test_a_node_alone(self, bench: Bench) -> None:
        one = await bench.node()
        assert await one.directory.nodes() == [one.record]
        assert await one.ids() == []
        assert await one.actors_sessions() == []
        assert await one.add("s1") == []
        assert await one.actors_sessions() == ["s1"]
        await bench.pass_leases(1.5)
        assert await one.ids() == ["s1"]
        assert await one.node_ids() == [one.id]
        assert (one.nodes_told, one.sessions_told) == ([], [])

    async def test_sessions_of_a_node_alone(self, bench: Bench) -> None:
        one = await bench.node()
        sessions = [one.session(f"s{number:02}", f"ui/{number % 7}", 100 - number) for number in range(50)]
        for session in sessions:
            assert await one.directory.add(session) == []
        assert await one.everything() == in_order(sessions)
        assert await self.paged(bench, one, "", 3) == in_order(sessions)
        assert await self.paged(bench, one, "ui/3", 3) == in_order(one for one in sessions if one.actor == "ui/3")
        assert await one.directory.of_actor("ui/0") == sessions[::7][::-1]
        for session in sessions[1:]:
            one.directory.remove(session)
        await bench.becomes(sessions[:1], one.everything)
        newer = msgspec.structs.replace(sessions[0], since=200)
        await one.directory.add(newer)
        await bench.becomes([newer], one.everything)
        assert one.directory.statistics()[:3] == (1, 1, True)

    # Many nodes

    async def test_nodes_know_each_other_oldest_first(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        assert await three.node_ids() == [one.id, two.id, three.id]
        await bench.all_become([one.id, two.id, three.id], Node.node_ids)

        async def told() -> list[list[tuple[str, bool]]]:
            return [sorted(node.nodes_told) for node in (one, two, three)]

        names = [(node.id, False) for node in (one, two, three)]
        await bench.becomes([names[1:], [names[0], names[2]], names[:2]], told)
        await bench.pass_leases(1.5)
        assert [len(list_) for list_ in await told()] == [2, 2, 2]

    async def test_what_a_node_reports_reaches_the_others(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        one.record = msgspec.structs.replace(
            one.record, sessions=7, lag=0.25, draining=True, trouble="“odd”", reported_at=5, address="h:1"
        )

        async def record() -> NodeRecord:
            return (await two.directory.nodes())[0]

        await bench.becomes(one.record, record)
        assert (await one.directory.nodes())[0] == one.record

    async def test_one_that_reports_is_never_gone(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("s1")
        await bench.pass_leases(2.5)
        assert await two.node_ids() == [one.id, two.id]
        assert await two.ids() == ["s1"]
        assert await one.actors_sessions() == ["s1"]
        assert two.nodes_told == [(one.id, False)]

    async def test_one_that_crashed_is_gone_when_its_lease_ends_and_its_sessions_too(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        await one.add("s1")
        await one.add("s2", "ui/456/bob")
        await two.add("s3")
        await bench.all_become(["s1", "s3", "s2"], Node.ids)
        await bench.crash(one)
        await bench.all_become([two.id, three.id], Node.node_ids)
        await bench.all_become(["s3"], Node.ids)
        assert await two.actors_sessions() == ["s3"]
        assert await three.actors_sessions("ui/456/bob") == []
        assert await three.add("s4") == ["s3"]

        async def told() -> bool:
            return all((one.id, True) in node.nodes_told for node in (two, three))

        await bench.until(told)
        await bench.pass_leases(1)
        assert [node.nodes_told.count((one.id, True)) for node in (two, three)] == [1, 1]

    async def test_one_that_leaves_is_gone_at_once(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        await one.add("s1")
        await bench.all_become(["s1"], Node.ids)
        one.lives = False
        before = bench.place.now()
        await one.directory.close()
        await one.directory.close()
        await bench.all_become([], Node.ids)
        await bench.all_become([two.id, three.id], Node.node_ids)

        async def told() -> bool:
            return all((one.id, True) in node.nodes_told for node in (two, three))

        await bench.until(told)
        assert bench.place.now() - before < bench.place.lease

    async def test_who_comes_after_a_crash_is_another(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("s1")
        await bench.crash(one)
        three = await bench.node()
        assert await three.add("s2", since=2_000) in ([], ["s1"])
        await bench.all_become([two.id, three.id], Node.node_ids)
        await bench.all_become(["s2"], Node.ids)

    # Sessions

    async def test_a_session_is_known_everywhere_until_it_is_removed(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        session = one.session("s1")
        assert await one.directory.add(session) == []
        await bench.all_become([session], lambda node: node.directory.of_actor(session.actor))
        await bench.all_become([session], Node.everything)
        one.directory.remove(session)
        await bench.all_become([], lambda node: node.directory.of_actor(session.actor))
        await bench.all_become([], Node.everything)
        one.directory.remove(session)
        two.directory.remove(two.session("never"))
        await three.add("s2")
        await bench.all_become(["s2"], Node.ids)

    async def test_add_names_the_sessions_on_other_nodes(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("s1", since=1)
        await one.add("s2", since=2)
        await bench.becomes(["s1", "s2"], two.actors_sessions)
        assert await two.add("s3", since=3) == ["s1", "s2"]
        assert await two.add("s4", since=4) == ["s1", "s2"]
        assert await two.add("t1", "ui/456/bob") == []
        await bench.becomes(["s1", "s2", "s3", "s4"], one.actors_sessions)
        assert await one.add("s5", since=5) == ["s3", "s4"]

    async def test_an_actors_sessions_are_told_oldest_first(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("c", since=30)
        await two.add("a", since=20)
        await one.add("z", since=10)
        await two.add("b", since=30)
        await two.add("d", since=9)
        await bench.all_become(["d", "z", "a", "b", "c"], Node.actors_sessions)

    async def test_added_again_it_is_there_once_as_it_is_now(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("s1", since=1)
        await bench.becomes(["s1"], two.ids)
        newer = one.session("s1", since=2, subject="somebody else")
        await one.directory.add(newer)
        await bench.all_become([newer], Node.everything)
        assert await two.directory.of_actor(newer.actor) == [newer]
        one.directory.remove(newer)
        await bench.all_become([], Node.ids)

    async def test_what_a_session_says_of_itself_and_how_it_is_is_known_everywhere(self, bench: Bench) -> None:
        one, _ = await bench.nodes(2)
        session = one.session("s1")
        states = [
            SessionState("d-1", "idle", '{"größe":[1,"two words"]}', 2.5, "degraded"),
            SessionState(parked=True),
            SessionState("d-1", "away", "", 604_800.0, "unhealthy"),
            SessionState(),
        ]
        for state in states:
            session = msgspec.structs.replace(session, state=state)
            assert await one.directory.add(session) == []
            await bench.all_become([session], Node.everything)
            await bench.all_become([session], lambda node, session=session: node.directory.of_actor(session.actor))  # type: ignore[misc]

    async def test_what_changes_while_it_is_cut_off_is_known_afterwards(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        session = one.session("s1")
        await one.directory.add(session)
        await bench.becomes([session], two.everything)
        await bench.place.cut(one.directory)
        changed = msgspec.structs.replace(session, state=SessionState(status="away"))
        with contextlib.suppress(BrokerAway):
            await one.directory.add(changed)
        await bench.place.heal(one.directory)
        await bench.all_become([changed], Node.everything)

    async def test_of_many_changes_at_once_the_last_holds(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        await one.add("stays")
        await bench.becomes(["stays"], two.ids)
        for since in range(3):
            for id_ in ("stays", "goes", "comes"):
                one.directory.remove(one.session(id_))
                await one.add(id_, since=since)
        one.directory.remove(one.session("goes"))
        await bench.all_become(["comes", "stays"], Node.ids)
        await bench.all_become(["comes", "stays"], Node.actors_sessions)

    async def test_a_session_that_goes_on_elsewhere_is_where_it_is_now(self, bench: Bench) -> None:
        one, two, three = await bench.nodes(3)
        here, there = one.session("s1", since=1), two.session("s1", since=2)
        await one.directory.add(here)
        await bench.becomes([here], two.everything)
        assert await two.directory.add(there) == [here]
        one.directory.remove(here)
        await bench.all_become([there], Node.everything)
        await one.directory.add(here)
        two.directory.remove(there)
        await bench.all_become([here], Node.everything)
        assert await three.directory.of_actor(here.actor) == [here]

    async def test_a_newcomer_knows_all_when_it_is_open(self, bench: Bench) -> None:
        nodes = await bench.nodes(3)
        for node in nodes:
            for number in range(100):
                await node.add(f"{node.id}-{number}", f"ui/{number}/x")
        await bench.step()
        late = await bench.node()
        assert len(await late.ids()) == 300
        assert await late.node_ids() == [node.id for node in (*nodes, late)]
        assert len(await late.add("mine", "ui/7/x")) == 3

    async def test_odd_texts_come_as_they_are(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        sessions = [
            one.session("1", "daemon", subject=""),
            one.session("2", "ui/a~@:+-._b/x", subject="“ä” \n \x00 {}'\\ 漢字 " + "y" * 1_000),
            one.session("3" * 64, "x/" + "y" * 128, since=2**52, subject="x/" + "y" * 128),
        ]
        for session in sessions:
            await one.directory.add(session)
        await bench.all_become(in_order(sessions), Node.everything)
        for session in sessions:
            assert await two.directory.of_actor(session.actor) == [session]

    async def test_two_thousand_at_once(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        sessions = [one.session(f"s{number}", f"ui/456/{number % 500}", number) for number in range(2_000)]
        for session in sessions:
            assert await one.directory.add(session) == []
        await bench.all_become(in_order(sessions), Node.everything)
        assert await two.actors_sessions("ui/456/77") == ["s77", "s577", "s1077", "s1577"]
        assert one.directory.statistics().sessions == 2_000
        for session in sessions[1:]:
            one.directory.remove(session)
        await bench.all_become(["s0"], Node.ids)

    # Pages

    async def filled(self, bench: Bench) -> tuple[list[Node], list[SessionRecord]]:
        nodes = await bench.nodes(3)
        sessions = []
        for number in range(240):
            node = nodes[number % 3]
            sessions.append(
                node.session(f"s{number * 37 % 240:03}", f"{'ui' if number % 2 else 'agent'}/{number % 50}")
            )
            await node.directory.add(sessions[-1])
        await bench.all_become(in_order(sessions), Node.everything)
        return nodes, in_order(sessions)

    async def paged(self, bench: Bench, node: Node, prefix: str, limit: int) -> list[SessionRecord]:
        found: list[SessionRecord] = []
        after = ""
        while page := await node.directory.sessions(prefix, after, limit):
            bench.report()
            assert len(page) <= limit
            found += page
            after = f"{page[-1].actor} {page[-1].id}"
        return found

    async def test_pages_join_without_gap_on_every_node(self, bench: Bench) -> None:
        nodes, sessions = await self.filled(bench)
        for node, limit in zip(nodes, (1, 7, 100), strict=True):
            assert await self.paged(bench, node, "", limit) == sessions
        for prefix in ("ui/", "ui/1", "ui/49", "agent/2", "nobody", "v"):
            wanted = [one for one in sessions if one.actor.startswith(prefix)]
            assert await self.paged(bench, nodes[0], prefix, 7) == wanted

    async def test_a_page_goes_on_behind_a_session_that_has_gone(self, bench: Bench) -> None:
        nodes, sessions = await self.filled(bench)
        gone = sessions[99]
        next(node for node in nodes if node.id == gone.node).directory.remove(gone)
        left = [one for one in sessions if one is not gone]
        await bench.all_become(left, Node.everything)
        after = f"{gone.actor} {gone.id}"
        assert await nodes[0].directory.sessions(after=after, limit=5) == sessions[100:105]
        assert (
            await nodes[1].directory.sessions("ui/", after="agent/0 s000", limit=3)
            == [one for one in left if one.actor.startswith("ui/")][:3]
        )
        assert await nodes[2].directory.sessions(after="zz x") == []
        assert len(await nodes[2].directory.sessions()) == 100

    # What is told of sessions

    async def test_the_others_sessions_are_told_as_they_come_and_go(self, bench: Bench) -> None:
        one, two = await bench.nodes(2)
        if not one.directory.follows_sessions:
            pytest.skip("this directory does not follow sessions")
        await one.add("s1")
        await one.add("s2")
        await two.add("mine")
        await bench.becomes(["mine", "s1", "s2"], two.ids)
        one.directory.remove(one.session("s1"))
        await bench.becomes(["mine", "s2"], two.ids)
        assert sorted(two.sessions_told) == [("s1", False), ("s1", True), ("s2", False)]
        await bench.crash(one)
        await bench.becomes(["mine"], two.ids)
        assert two.sessions_told[-1] == ("s2", True)
        late = await bench.node()
        assert late.sessions_told == [("mine", False)]
        assert len(two.sessions_told) == 4

    # Outages

    async def test_an_outage_of_one_node_is_made_good(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        await one.add("stays", since=1)
        await one.add("goes", since=2)
        await bench.becomes(["goes", "stays"], two.ids)
        await place.cut(one.directory)
        told = one.directory.statistics()
        assert (told.healthy, told.reason) == (False, one.directory.trouble())
        assert told.reason
        one.directory.remove(one.session("goes"))
        wanted = ["stays", "theirs"]
        try:
            await one.add("new", since=3)
            wanted.insert(0, "new")
        except BrokerAway:
            pass
        await two.add("theirs", since=4)
        await place.heal(one.directory)
        await bench.all_become(wanted, Node.ids)
        await bench.all_become([one.id, two.id], Node.node_ids)
        assert one.directory.trouble() == ""
        assert await two.add("more", since=5) == [id_ for id_ in ("stays", "new") if id_ in wanted]

    async def test_an_outage_longer_than_a_lease(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        await one.add("s1", since=1)
        await two.add("s2", since=2)
        await bench.all_become(["s1", "s2"], Node.ids)
        await place.cut(one.directory)
        await bench.becomes([two.id], two.node_ids)
        assert await two.ids() == ["s2"]
        two.directory.remove(two.session("s2"))
        await two.add("s3", since=3)
        await place.heal(one.directory)
        await bench.all_become(["s1", "s3"], Node.ids)
        await bench.all_become([one.id, two.id], Node.node_ids)
        await bench.all_become(["s1", "s3"], Node.actors_sessions)

    async def test_who_died_in_an_outage_is_gone_after_it(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        await two.add("s2")
        await bench.becomes(["s2"], one.ids)
        await place.cut(one.directory)
        await bench.crash(two)
        await place.heal(one.directory)
        await bench.becomes([one.id], one.node_ids)
        assert await one.ids() == []

    async def test_what_the_server_forgot_is_told_again(self, bench: Bench, place: Place) -> None:
        one, two = await bench.nodes(2)
        for number in range(20):
            await one.add(f"s{number:02}", f"ui/{number}")
            await two.add(f"t{number:02}", f"ui/{number}")
        await bench.all_become(40, lambda node: counted(node.ids()))
        await place.lose_everything()
        await bench.all_become([one.id, two.id], Node.node_ids)
        await bench.all_become(40, lambda node: counted(node.ids()))
        await bench.all_become(2, lambda node: counted(node.actors_sessions("ui/7")))

    async def test_away_from_the_start(self, bench: Bench, place: Place) -> None:
        await bench.nodes(1)
        node = bench.made()
        assert node.directory.trouble()
        await place.cut(node.directory)
        with pytest.raises(BrokerAway):
            await place.open(node.directory, node.record)

    # Strangers

    async def test_installations_do_not_see_each_other(self, bench: Bench) -> None:
        [one] = await bench.nodes(1)
        stranger = await bench.node("other")
        await one.add("ours")
        assert await stranger.add("theirs") == []
        await bench.pass_leases(0.5)
        assert (await one.ids(), await stranger.ids()) == (["ours"], ["theirs"])
        assert (await one.node_ids(), await stranger.node_ids()) == ([one.id], [stranger.id])


async def counted(ids: Awaitable[list[str]]) -> int:
    return len(await ids)
