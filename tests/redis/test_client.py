"""The connection to Redis against real servers."""

import asyncio
import datetime
import ipaddress
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from faults.proxy import Proxy, Silence
from smart_router.errors import BrokerAway, ConfigError, StorageFull
from smart_router.redis.base import ReplyRefused, Script, Unanswered
from smart_router.redis.client import Redis
from smart_router.redis.slots import slot_of_tag
from smart_router.redis.url import RedisUrl
from tests.clusters.process import OwnServer, free_ports
from tests.clusters.redis import OwnRedis, Tls
from tests.clusters.redis_cluster import RedisCluster
from tests.clusters.wire import redis_call
from tests.services import StartRedis

Connect = Callable[..., Redis]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    made: list[Redis] = []

    def make(url: str, told: list[str] | None = None) -> Redis:
        tell = (lambda _text: None) if told is None else told.append
        made.append(
            Redis(
                RedisUrl(url),
                name="test",
                on_up=lambda: tell("up"),
                on_down=lambda _reason: tell("down"),
                on_resubscribed=lambda: tell("again"),
            )
        )
        return made[-1]

    yield make
    for redis in made:
        await redis.close()


async def within(seconds: float, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the network tells nobody)
            await asyncio.sleep(0.005)


async def test_commands_are_answered_in_order(own_redis: StartRedis, connect: Connect) -> None:
    redis = connect((await asyncio.to_thread(own_redis)).url)
    await redis.open()
    answers: list[object] = []
    for number in range(100):
        redis.send("1", ("ECHO", number), answers.append)
    assert await redis.call("1", "SET", redis.key("1", "a"), b"\0\r\n") == b"OK"
    assert answers == [str(number).encode() for number in range(100)]
    assert await redis.call("1", "GET", redis.key("1", "a")) == b"\0\r\n"
    assert redis.statistics().writes < 10
    with pytest.raises(ReplyRefused) as caught:
        await redis.call("1", "LPUSH", redis.key("1", "a"), "x")
    assert caught.value.word == "WRONGTYPE"


async def test_a_script_is_loaded_where_it_is_missing(own_redis: StartRedis, connect: Connect) -> None:
    redis = connect((await asyncio.to_thread(own_redis)).url)
    await redis.open()
    script = Script(b"return ARGV[1]")
    assert await redis.call("1", *redis.evaluation(script, (redis.key("1", "a"),), "x")) == b"x"
    await redis.call("1", "SCRIPT", "FLUSH")
    assert await redis.call("1", *redis.evaluation(script, (redis.key("1", "a"),), "y")) == b"y"


async def test_login_database_and_kind_of_server(own_redis: StartRedis, connect: Connect) -> None:
    server = await asyncio.to_thread(lambda: own_redis(password="p:@/#%"))
    await connect(server.url).open()
    place = f"127.0.0.1:{server.port}"
    for url, problem in [
        (f"redis://:wrong@{place}/0", "user or password"),
        (f"redis://{place}/0", "user or password"),
        (server.url.replace("/0", "/99"), "no database 99"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            await connect(url).open()
    open_server = await asyncio.to_thread(own_redis)
    with pytest.raises(ConfigError, match="no Sentinel"):
        await connect(f"{open_server.url}?master=m").open()
    replica = await asyncio.to_thread(lambda: own_redis(replica_of=("127.0.0.1", open_server.port)))
    with pytest.raises(ConfigError, match="replica"):
        await connect(replica.url).open()
    await connect(f"redis://127.0.0.1:{replica.port},127.0.0.1:{open_server.port}/0").open()


async def test_nobody_there(connect: Connect) -> None:
    (port,) = free_ports(1)
    with pytest.raises(BrokerAway, match=str(port)):
        await connect(f"redis://127.0.0.1:{port}/0").open()


async def test_somebody_else_there(connect: Connect) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((BrokerAway, ConfigError)):
            await connect(f"redis://127.0.0.1:{port}/0?timeout=1").open()


async def test_tls(own_redis: StartRedis, connect: Connect, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = await asyncio.to_thread(lambda: own_redis(tls=Tls(certificate, key, certificate)))
    redis = connect(f"{server.url}?cacertfile={certificate}")
    await redis.open()
    assert await redis.call("1", "PING") == b"PONG"
    with pytest.raises(ConfigError, match="TLS"):
        await connect(server.url).open()


async def test_it_comes_back_by_itself(own_redis: StartRedis, connect: Connect) -> None:
    server = await asyncio.to_thread(own_redis)
    told: list[str] = []
    redis = connect(server.url, told)
    await redis.open()
    messages: list[bytes] = []
    redis.subscribe(redis.channel("news"), messages.append)
    answers: list[object] = []
    for _ in range(2):
        server.kill()
        redis.send("1", ("PING",), answers.append)
        await within(5, lambda: not redis.up)
        assert "broker.url" in redis.trouble()
        redis.send("1", ("PING",), answers.append)
        await asyncio.to_thread(server.start)
        await within(10, lambda: redis.up)
    assert all(isinstance(answer, BrokerAway) for answer in answers)
    assert isinstance(answers[0], Unanswered)
    assert told == ["up", "down", "again", "up", "down", "again", "up"]
    assert redis.statistics().outages == 2
    redis.publish(redis.channel("news"), b"hello")
    await within(5, lambda: messages == [b"hello"])
    redis.unsubscribe(redis.channel("news"))


async def test_a_silent_server_is_away(own_redis: StartRedis, connect: Connect) -> None:
    server = await asyncio.to_thread(own_redis)
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        redis = connect(f"redis://127.0.0.1:{proxy.port}/0?timeout=1")
        await redis.open()
        proxy.hold(Silence.TO_CLIENT)
        answers: list[object] = []
        redis.send("1", ("PING",), answers.append)
        await within(5, lambda: isinstance(answers[:1] and answers[0], Unanswered))
        assert not redis.up
        proxy.heal()
        await within(10, lambda: redis.up)
        await redis.close()


async def test_channels_that_are_not_allowed_are_told(own_redis: StartRedis) -> None:
    server = await asyncio.to_thread(own_redis)
    server.call("ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    with structlog.testing.capture_logs() as logs:
        redis = Redis(RedisUrl(server.url.replace("//", "//mute:secret@")), name="test")
        redis.subscribe(redis.channel("news"), lambda _message: None)
        await redis.open()
        await within(5, lambda: bool(logs))
        await redis.close()
    assert [line["event"] for line in logs] == ["redis_refused"]
    assert "ACL" in logs[0]["reason"]


async def test_full(own_redis: StartRedis, connect: Connect) -> None:
    server = await asyncio.to_thread(lambda: own_redis("--maxmemory", "1"))
    redis = connect(server.url)
    await redis.open()
    with pytest.raises(StorageFull):
        await redis.call("1", "SET", redis.key("1", "a"), "x")


@pytest.mark.slow
async def test_each_master_of_a_cluster_has_its_slots(tmp_path: Path, connect: Connect) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (script/services)")
    cluster = RedisCluster(tmp_path)
    try:
        await asyncio.to_thread(cluster.start)
        redis = connect(cluster.url)
        await redis.open()
        assert len(redis.servers()) == 3
        for number in range(50):
            tag = f"{number:03d}"
            await redis.call(tag, "SET", redis.key(tag, "x"), number)
            assert cluster.node_of(redis.key(tag, "x").decode()).call("GET", redis.key(tag, "x").decode()) == str(
                number
            )
        for server in redis.servers():
            assert (
                str(await redis.call(redis.tag_for(server), "CONFIG", "GET", "port")).find(
                    server.address.rpartition(":")[2]
                )
                > 0
            )
        first, second = cluster.nodes[0], cluster.nodes[1]
        tag = next(tag for tag in map(str, range(1000)) if slot_of_tag(tag) < 5000)
        slot = str(slot_of_tag(tag))
        mine = second.call("CLUSTER", "MYID")
        for node in cluster.nodes:
            await asyncio.to_thread(node.call, "CLUSTER", "SETSLOT", slot, "NODE", mine)
        assert await redis.call(tag, "SET", redis.key(tag, "moved"), "x") == b"OK"
        assert second.call("GET", redis.key(tag, "moved").decode()) == "x"
        first.kill()
        await within(5, lambda: not redis.up)
        assert await redis.call(tag, "GET", redis.key(tag, "moved")) == b"x"
        await asyncio.to_thread(first.start)
        await within(15, lambda: redis.up)
    finally:
        cluster.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Self-signed, for 127.0.0.1: (certificate, key)."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "redis")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2120))
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    signed = builder.add_extension(place, critical=False).sign(key, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


class Sentinel(OwnServer):
    """Watches one master, alone: its word is enough."""

    def __init__(self, folder: Path, master: OwnRedis) -> None:
        super().__init__("sentinel", folder)
        (self.port,) = free_ports(1)
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds shop 300\nsentinel failover-timeout shop 1000\n"
        )

    def command(self) -> list[str]:
        program = shutil.which("redis-server")
        assert program
        return [program, str(self._file), "--sentinel"]

    def answers(self) -> bool:
        try:
            return redis_call(("127.0.0.1", self.port), ["PING"]) == "+PONG"
        except OSError:
            return False


@pytest.mark.slow
async def test_sentinel_names_the_master_and_the_next_one(
    own_redis: StartRedis, connect: Connect, tmp_path: Path
) -> None:
    master = await asyncio.to_thread(own_redis)
    replica = await asyncio.to_thread(lambda: own_redis(replica_of=("127.0.0.1", master.port)))
    sentinel = Sentinel(tmp_path / "sentinel", master)
    try:
        await asyncio.to_thread(sentinel.start)
        url = f"redis://127.0.0.1:{sentinel.port}/0"
        with pytest.raises(ConfigError, match="Sentinel"):
            await connect(url).open()
        with pytest.raises(ConfigError, match="master"):
            await connect(f"{url}?master=unknown").open()
        redis = connect(f"{url}?master=shop")
        await redis.open()
        assert [server.address for server in redis.servers()] == [f"127.0.0.1:{master.port}"]
        async with asyncio.timeout(10):
            while "slave0" not in master.call("INFO", "replication"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while "num-slaves\n0" in "\n".join([sentinel_says(sentinel)]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        master.kill()
        await within(20, lambda: redis.up and redis.servers()[0].address == f"127.0.0.1:{replica.port}")
        assert await redis.call("1", "SET", redis.key("1", "a"), "x") == b"OK"
    finally:
        sentinel.close()


def sentinel_says(sentinel: Sentinel) -> str:
    answer = redis_call(("127.0.0.1", sentinel.port), ["INFO", "sentinel"])
    return "num-slaves\n0" if "slaves=0" in answer else answer
