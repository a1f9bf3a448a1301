"""The PostgreSQL store: the contract, several nodes on one database, and what only a server can suffer."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from structlog.testing import capture_logs

from faults.proxy import Proxy, Silence
from smart_router.errors import BrokerAway, StorageError, StorageFull
from smart_router.stores.base import DeadLetterFilter, Revocation, Store, SubEndpoint
from smart_router.stores.postgresql import PostgresqlStore
from smart_router.stores.postgresql_place import Place
from smart_router.stores.postgresql_pool import Limits
from tests.contracts.store import EVERYTHING, Fault, Opener, StoreContract, letter
from tests.fakes.clock import until
from tests.stores.postgresql_server import Sql, connect, fresh_place, port_of, through

QUICK = Limits(check=0.02, first_wait=0.005, longest_wait=0.02, connect=1.0, statement=1.0)

RAISE = """create function trouble() returns trigger language plpgsql as
    $$ begin raise exception using errcode = '{code}', message = '{text}'; end $$"""
TRIGGER = "create trigger trouble before insert on dead_letters for each row execute function trouble()"


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """Of its own, and gone after the test."""
    connection = await connect()
    place = fresh_place()
    yield place
    await connection.execute(f'drop schema if exists "{place.schema}" cascade')
    await connection.close()


@pytest.fixture
async def sql(place: Place) -> AsyncIterator[Sql]:
    connection = await connect()

    async def run(statement: str, *values: object) -> list[tuple[object, ...]]:
        await connection.execute(f'set search_path = "{place.schema}"')
        return [tuple(row) for row in await connection.fetch(statement, *values)]

    yield run
    await connection.close()


@pytest.fixture
async def opener(place: Place) -> AsyncIterator[Opener]:
    opened: list[PostgresqlStore] = []

    async def reopen() -> Store:
        for store in opened:
            await store.close()
        opened.append(PostgresqlStore(place))
        await opened[-1].open()
        return opened[-1]

    yield reopen
    await opened[-1].close()


@pytest.fixture
def fault(sql: Sql) -> Fault:
    async def make(store: Store, error: type[StorageError]) -> None:
        code, text = ("53100", "disk full") if error is StorageFull else ("XX001", "invalid page in block 1")
        await sql(RAISE.format(code=code, text=text))
        await sql(TRIGGER)

    return make


class TestPostgresql(StoreContract):
    pass


@pytest.fixture
async def store(opener: Opener) -> Store:
    return await opener()


@pytest.fixture
async def nodes(place: Place) -> AsyncIterator[list[PostgresqlStore]]:
    """Three on one database, opened at the same time."""
    stores = [PostgresqlStore(place, QUICK) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    async with Proxy(port_of(place)) as proxy:
        yield proxy


@pytest.fixture
async def far(place: Place, proxy: Proxy) -> AsyncIterator[PostgresqlStore]:
    """A store that reaches the server through the proxy."""
    store = PostgresqlStore(through(place, proxy.port), QUICK, Random(1))
    await store.open()
    yield store
    await store.close()


def cut(proxy: Proxy) -> None:
    """As when the server stops: connections end, and no new one is made."""
    proxy.target = ("127.0.0.1", 1)
    for connection in list(proxy.connections):
        connection.reset()


async def until_back(store: PostgresqlStore) -> None:
    await until(lambda: store.statistics().healthy)


# What PostgreSQL makes different


async def test_names_that_no_index_takes(store: Store) -> None:
    long = letter(1, id="i" * 10_000, address="ui/" + "é" * 10_000, type="t" * 3_000)
    await store.add_dead_letters([long, letter(2)])
    assert await store.dead_letters(DeadLetterFilter(address=long.address)) == [long]
    assert await store.remove_dead_letters([(long.id, long.address, long.type)]) == 1


async def test_nul_and_backslash_in_every_text(store: Store) -> None:
    names = ["a\0b", "a\\0b", "a\\\0b", "\\\\0", "a\nb", "a0b"]
    letters = [letter(1, id=name, address=name, type=name, sender=name, detail=name) for name in names]
    await store.add_dead_letters(letters)
    for one in letters:
        assert await store.dead_letters(DeadLetterFilter(address=one.address, sender=one.sender)) == [one]
        await store.add_sub_endpoint(SubEndpoint("agent", one.id, 1))
        await store.add_revocation(Revocation(at=1, subject=one.id))
    assert {one.id for one in await store.sub_endpoints()} == set(names)
    assert {one.subject for one in await store.revocations()} == set(names)
    assert await store.remove_dead_letters([(one.id, one.address, one.type) for one in letters]) == len(names)


async def test_pages_join_where_names_are_escaped(store: Store) -> None:
    letters = [letter(1, id=name) for name in ("\0", "a", "\\", "b", "\\0", "[", "]")]
    await store.add_dead_letters(letters)
    seen = []
    after = None
    while page := await store.dead_letters(EVERYTHING, after=after, limit=2):
        seen += page
        after = (page[-1].ended_at, page[-1].id, page[-1].address, page[-1].type)
    assert sorted(one.id for one in seen) == sorted(one.id for one in letters)


async def test_a_damaged_letter_is_left_out_and_told(store: Store, sql: Sql) -> None:
    await store.add_dead_letters([letter(number) for number in range(4)])
    await sql("update dead_letters set record = 'x' where id = 'id-000001'")
    assert await store.dead_letters(EVERYTHING, limit=3) == [letter(0), letter(2), letter(3)]
    assert (store.statistics().healthy, "1 dead letters" in store.statistics().reason) == (False, True)


async def test_when_there_is_room_again_it_goes_on_by_itself(store: Store, fault: Fault, sql: Sql) -> None:
    await fault(store, StorageFull)
    with pytest.raises(StorageFull, match="disk full: make room"):
        await store.add_dead_letters([letter(1)])
    await sql("drop trigger trouble on dead_letters")
    await store.add_dead_letters([letter(1)])
    assert store.statistics()[::4] == (1, True)


async def test_the_texts_of_rows_are_not_in_errors(store: Store, sql: Sql) -> None:
    await sql("alter table dead_letters add check (sender <> 'secret sender')")
    with pytest.raises(StorageError) as raised:
        await store.add_dead_letters([letter(1, sender="secret sender")])
    assert "violates check constraint" in raised.value.message
    assert "secret" not in raised.value.message


async def test_more_calls_than_may_wait_are_refused(place: Place) -> None:
    store = PostgresqlStore(place, Limits(waiting=50))
    await store.open()
    results = await asyncio.gather(*(store.probe() for _ in range(60)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, StorageError)]
    assert len(refused) == 10
    assert {(error.code, error.temporary) for error in refused} == {("busy", True)}
    await store.close()


async def test_a_lock_held_too_long_is_busy(nodes: list[PostgresqlStore], place: Place) -> None:
    blocker = await connect()
    async with blocker.transaction():
        await blocker.execute(f'lock table "{place.schema}".dead_letters in exclusive mode')
        with pytest.raises(StorageError, match="too busy") as raised:
            await nodes[0].add_dead_letters([letter(1)])
        assert (raised.value.code, raised.value.temporary) == ("busy", True)
        await nodes[0].add_sub_endpoint(SubEndpoint("agent", "1", 1))
    await nodes[0].add_dead_letters([letter(1)])
    await blocker.close()


# Several nodes


async def test_what_one_node_writes_the_others_read(nodes: list[PostgresqlStore], place: Place) -> None:
    one, two, three = nodes
    await one.add_revocation(Revocation(at=9, subject="alice", expires_at=0))
    await two.add_revocation(Revocation(at=5, subject="alice", expires_at=50))
    assert [await node.add_sub_endpoint(SubEndpoint("agent", "458", 7)) for node in nodes] == [True, False, False]
    await one.add_dead_letters([letter(1)])
    await two.add_dead_letters([letter(1, reason="ttl")])
    later = PostgresqlStore(place)
    await later.open()
    assert await later.revocations() == [Revocation(at=9, subject="alice", expires_at=0)]
    assert later.statistics() == (1, 0, 1, 1, True, "")
    await later.close()
    assert await three.dead_letters(EVERYTHING) == [letter(1, reason="ttl")]
    await until(lambda: all(node.statistics() == (1, 0, 1, 1, True, "") for node in nodes))


async def test_nodes_that_trim_together_count_each_letter_once(nodes: list[PostgresqlStore]) -> None:
    await nodes[0].add_dead_letters([letter(number) for number in range(300)])
    gone = await asyncio.gather(*(node.trim_dead_letters(older_than=10_100, keep=150) for node in nodes * 3))
    assert sum(gone) == 150
    assert sum(node.statistics().dead_letters_dropped for node in nodes) == 150
    assert await nodes[1].dead_letters(EVERYTHING, limit=500) == [letter(number) for number in range(150, 300)]


async def test_nodes_that_write_the_same_letters_in_any_order_disturb_nobody(nodes: list[PostgresqlStore]) -> None:
    rng = Random(7)
    letters = [letter(number) for number in range(200)]
    keys = [(one.id, one.address, one.type) for one in letters]

    async def work(node: PostgresqlStore) -> None:
        for _ in range(10):
            await node.add_dead_letters(rng.sample(letters, 150))
            await node.remove_dead_letters(rng.sample(keys, 100))

    await asyncio.gather(*(work(node) for node in nodes))
    await nodes[0].add_dead_letters(letters)
    assert await nodes[1].dead_letters(EVERYTHING, limit=500) == letters
    await until(lambda: all(node.statistics().dead_letters == 200 for node in nodes))


# The server goes away


async def test_while_the_server_is_away_calls_are_refused_at_once_and_then_it_goes_on(
    far: PostgresqlStore, proxy: Proxy, place: Place
) -> None:
    await far.add_dead_letters([letter(1)])
    target = proxy.target
    with capture_logs() as logs:
        cut(proxy)
        await until(lambda: not far.statistics().healthy)
        for call in (far.probe(), far.dead_letters(EVERYTHING), far.add_dead_letters([letter(2)])):
            with pytest.raises(
                BrokerAway, match=r"cannot be used: .*: see to the server, or correct `store`"
            ) as raised:
                await call
            assert raised.value.temporary
        assert far.statistics().dead_letters == 1
        proxy.target = target
        await until_back(far)
    await far.add_dead_letters([letter(2)])
    assert await far.dead_letters(EVERYTHING) == [letter(1), letter(2)]
    assert far.statistics() == (2, 0, 0, 0, True, "")
    assert [entry["event"] for entry in logs] == ["store_away", "store_back"]


async def test_a_server_that_says_nothing_is_away(far: PostgresqlStore, proxy: Proxy) -> None:
    for connection in proxy.connections:
        connection.silence = Silence.BOTH
    with pytest.raises(BrokerAway, match="no answer in time"):
        await far.probe()
    await until_back(far)
    await far.probe()


async def test_connections_that_the_server_ends_are_made_again(far: PostgresqlStore, sql: Sql, place: Place) -> None:
    ended = 0
    for number in range(20):
        kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1"
        ended += len(await sql(kill, f"smart-router {place.schema}"))
        try:
            await far.add_dead_letters([letter(number)])
        except BrokerAway:
            await until_back(far)
            await far.add_dead_letters([letter(number)])
    assert ended
    await far.probe()
    assert await far.dead_letters(EVERYTHING) == [letter(number) for number in range(20)]
    assert far.statistics().dead_letters == 20


async def test_a_cut_within_a_write_leaves_all_of_it_or_nothing_and_the_counts_right(
    far: PostgresqlStore, proxy: Proxy
) -> None:
    for number in range(0, 300, 30):
        many = [letter(one, body=b"x" * 20_000) for one in range(number, number + 30)]
        adding = asyncio.ensure_future(far.add_dead_letters(many))
        for _ in range(number // 10):
            await asyncio.sleep(0)
        for connection in list(proxy.connections):
            connection.reset()
        await asyncio.gather(adding, return_exceptions=True)
        await until_back(far)
    await until_back(far)
    await far.probe()
    kept = await far.dead_letters(EVERYTHING, limit=500)
    assert len(kept) % 30 == 0
    assert far.statistics().dead_letters == len(kept)


async def test_closing_while_the_server_is_away(far: PostgresqlStore, proxy: Proxy) -> None:
    cut(proxy)
    await until(lambda: not far.statistics().healthy)
    await far.close()
    with pytest.raises(StorageError, match="closed"):
        await far.probe()
