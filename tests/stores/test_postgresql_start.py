"""Starting with a wrong setting, and a server of the tests' own: passwords, TLS, stop, crash."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from smart_router.errors import BrokerAway, ConfigError
from smart_router.stores.open import open_store
from smart_router.stores.postgresql import PostgresqlStore
from smart_router.stores.postgresql_place import Place
from smart_router.stores.postgresql_pool import Limits
from tests.contracts.store import EVERYTHING, letter
from tests.fakes.clock import until
from tests.stores.postgresql_server import SERVER, connect

QUICK = Limits(check=0.02, first_wait=0.005, longest_wait=0.02, connect=2.0, statement=2.0)
PASSWORD = "hush/@?#%41"
ENCODED = "hush%2F%40%3F%23%2541"


class Server:
    """A PostgreSQL of our own: SCRAM passwords, TLS, user `router` and database `chat`; never runs as root."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        arguments = ("-U", "router", "-A", "scram-sha-256", "--pwfile", self.folder / "password", "-E", "UTF8", "-N")
        self._run("initdb", "-D", self._data, *arguments)
        x509 = ("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "9", "-subj", "/CN=localhost")
        names = ("-addext", "subjectAltName=DNS:localhost")
        subprocess.run(
            ["openssl", *x509, *names, "-keyout", self._data / "server.key", "-out", self.certificate],
            check=True,
            capture_output=True,
            user=self._user,
        )
        (self._data / "server.key").chmod(0o600)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def certificate(self) -> Path:
        return self._data / "server.crt"

    def start(self) -> None:
        command = [self._binaries / "postgres", "-D", self._data, "-k", self.folder, "-c", f"port={self.port}"]
        options = ["-c", "listen_addresses=localhost", "-c", "ssl=on", "-c", "fsync=off"]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(list(map(str, command)) + options, stdout=log, stderr=log, user=self._user)
        log.close()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(15)
            self._process = None

    def url(self, login: str = f"router:{ENCODED}", database: str = "postgres", options: str = "") -> str:
        return f"postgresql://{login}@localhost:{self.port}/{database}{options}"

    def _run(self, name: str, *arguments: str | Path) -> None:
        subprocess.run([self._binaries / name, *arguments], check=True, capture_output=True, user=self._user)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not shutil.which("openssl"):
        pytest.skip("no PostgreSQL server programs in /usr/lib/postgresql, or no openssl")
    folder = Path(tempfile.mkdtemp(prefix="smart-router-postgresql-"))
    server = Server(folder, found[-1].parent)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


async def opened(url: str, limits: Limits = QUICK) -> PostgresqlStore:
    """As soon as the server lets it."""
    while True:
        store = PostgresqlStore(Place(url.partition("://")[2]), limits)
        try:
            await store.open()
        except BrokerAway:
            continue
        return store


@pytest.fixture
async def own(server: Server) -> AsyncIterator[PostgresqlStore]:
    store = await opened(server.url())
    yield store
    await store.close()


# Wrong settings, on the server that is there


def changed(**parts: str) -> str:
    """The tests' URL with another user or database."""
    login, _, place = SERVER.partition("://")[2].rpartition("@")
    host, _, database = place.partition("/")
    return f"postgresql://{parts.get('login', login)}@{host}/{parts.get('database', database)}"


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("login", "no_such_user:hush", r'store: .*"no_such_user"'),
        ("database", "no_such_database", r'store: .*database "no_such_database" does not exist'),
    ],
)
async def test_a_wrong_setting_is_named(part: str, value: str, problem: str) -> None:
    await (await connect()).close()
    with pytest.raises(ConfigError, match=problem) as raised:
        await open_store(changed(**{part: value}), Path())
    assert "hush" not in raised.value.message


@pytest.mark.parametrize(
    ("host", "problem"), [("127.0.0.1:1", "refused|failed"), ("no-such-host.invalid:5432", "cannot be used")]
)
async def test_a_server_that_is_not_there(host: str, problem: str) -> None:
    with pytest.raises(BrokerAway, match=rf"({problem}).*: see to the server, or correct `store`") as raised:
        await open_store(f"postgresql://u:hush@{host}/chat", Path())
    assert "hush" not in raised.value.message


@pytest.mark.parametrize("mode", ["prefer", "disable", "require"])
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"S", b"E" + bytes(40), b"R\0\0\0\x08\0\0\0c"]
)
async def test_a_server_that_is_no_postgresql(answer: bytes, mode: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerAway, match="cannot be used") as raised:
            await open_store(f"postgresql://u:hush@127.0.0.1:{port}/chat?sslmode={mode}", Path())
    assert "hush" not in raised.value.message


async def test_the_first_host_that_answers_is_taken() -> None:
    await (await connect()).close()
    login, _, rest = SERVER.partition("://")[2].rpartition("@")
    url = f"{login}@127.0.0.1:1,{rest}?schema=test_hosts&target_session_attrs=read-write"
    store = PostgresqlStore(Place(url))
    await store.open()
    await store.probe()
    await store.close()
    connection = await connect()
    await connection.execute("drop schema test_hosts cascade")
    await connection.close()


# A server of our own


@pytest.mark.slow
async def test_password_and_tls(own: PostgresqlStore, server: Server) -> None:
    await own.probe()
    for login in ("router:wrong", "router"):
        with pytest.raises(ConfigError, match=r"store: .*password") as raised:
            await open_store(server.url(login), Path())
        assert "wrong" not in raised.value.message
    for options in ("?sslmode=require", f"?sslmode=verify-full&sslrootcert={server.certificate}", "?sslmode=disable"):
        store = await opened(server.url(options=options))
        await store.close()
    with pytest.raises((ConfigError, BrokerAway), match=r"cannot be used: .*(certificate|file)"):
        await open_store(server.url(options="?sslmode=verify-full"), Path())


@pytest.mark.slow
async def test_a_password_file_is_read(
    own: PostgresqlStore, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"localhost:{server.port}:postgres:router:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    store = await opened(server.url("router"))
    await store.probe()
    await store.close()


@pytest.mark.slow
async def test_a_password_that_is_changed_while_it_runs(own: PostgresqlStore, server: Server) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute("create role clerk login password 'first'")
    await connection.execute("create schema clerks authorization clerk")
    store = await opened(server.url("clerk:first", options="?schema=clerks"))
    await connection.execute("alter role clerk password 'second'")
    await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'clerk'")
    await until(lambda: "password authentication failed" in store.statistics().reason)
    with pytest.raises(BrokerAway, match="password authentication failed") as raised:
        await store.probe()
    assert "first" not in raised.value.message
    await connection.execute("alter role clerk password 'first'")
    await until(lambda: store.statistics().healthy)
    await store.close()
    await connection.close()


@pytest.mark.slow
async def test_a_role_that_may_not_make_the_schema(own: PostgresqlStore, server: Server) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute("create role guest login password 'guest'")
    with pytest.raises(ConfigError, match=r"store: .*permission denied"):
        await open_store(server.url("guest:guest", options="?schema=other"), Path())
    await connection.execute("create schema other authorization guest")
    await (await opened(server.url("guest:guest", options="?schema=other"))).close()
    await connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=lambda how: how.name)
async def test_a_server_that_stops_or_crashes_is_found_again(
    own: PostgresqlStore, server: Server, how: signal.Signals
) -> None:
    with capture_logs() as logs:
        await own.add_dead_letters([letter(how)])
        server.stop(how)
        await until(lambda: not own.statistics().healthy)
        with pytest.raises(BrokerAway):
            await own.add_dead_letters([letter(99)])
        server.start()
        await until(lambda: own.statistics().healthy)
        await own.add_dead_letters([letter(100 + how)])
    kept = {one.id for one in await own.dead_letters(EVERYTHING)}
    assert {letter(how).id, letter(100 + how).id} <= kept
    assert letter(99).id not in kept
    assert [entry["event"] for entry in logs][:1] == ["store_away"]
    assert PASSWORD not in str(logs)
    assert ENCODED not in str(logs)


@pytest.mark.slow
async def test_a_server_that_becomes_read_only_is_away(own: PostgresqlStore, server: Server) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute("alter system set default_transaction_read_only = on")
    await connection.execute("select pg_reload_conf()")
    await until(lambda: "read-only transaction" in own.statistics().reason)
    with pytest.raises(BrokerAway):
        await own.add_dead_letters([letter(500)])
    await connection.execute("alter system reset default_transaction_read_only")
    await connection.execute("select pg_reload_conf()")
    await until(lambda: own.statistics().healthy)
    await own.add_dead_letters([letter(500)])
    await connection.close()
