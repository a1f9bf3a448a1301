"""Three real nodes on RabbitMQ and on Redis: in at one, out at another; resume, kill -9, common knowledge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from faults.wire import Gone, Link
from tests.end_to_end.actors import Actors
from tests.end_to_end.conftest import EXAMPLE, StartActors
from tests.processes import PROGRAM, ServerProcess, serve
from tests.services import unique

__all__: list[str] = []

ALICE, BOB = "ui/456/alice", "ui/456/bob"
PATIENCE = 30.0


@pytest.fixture(scope="module", params=["redis", "amqp"])
def broker(request: pytest.FixtureRequest) -> str:
    """A broker's URL, for this module alone."""
    if request.param == "redis":
        return f"{request.getfixturevalue('redis')}?prefix={unique('test')}:"
    return str(request.getfixturevalue("amqp_vhost"))


class Installation:
    """Servers that are started and killed by name."""

    def __init__(self, broker: str, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._count = 0
        self.nodes: list[ServerProcess] = []

    def start(self, *arguments: str) -> ServerProcess:
        self._count += 1
        name = f"node-{self._count}"
        place = ("--port", "0", "--data", str(self._folder / name), "--broker", self._broker)
        node = serve(("--config", str(EXAMPLE), *place, *arguments), self._folder, name, {})
        self.nodes.append(node)
        return node

    def logs(self) -> str:
        return "".join(path.read_text() for path in self._folder.glob("*.log"))


@pytest.fixture(scope="module")
def installation(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(broker, tmp_path_factory.mktemp("installation"))
    try:
        for _ in range(3):
            installation.start()
        yield installation
        for node in installation.nodes:
            if node.running:
                assert node.stop() == 0
    finally:
        for node in installation.nodes:
            node.kill()
            node.stop()
    assert "Traceback (most recent call last)" not in installation.logs()


class Peer:
    """A Socket.IO client on a raw WebSocket: remembers what it is given; pings are answered as they are read."""

    def __init__(self, link: Link, actor: str) -> None:
        self.actor = actor
        self.pid = link.pid
        self.payloads: list[Any] = []
        self.messages: list[dict[str, Any]] = []
        self.offset: str | None = None
        self.answers: dict[int, Any] = {}
        self.hello = asyncio.Event()
        self._link = link
        self._task = asyncio.ensure_future(self._read())
        self._numbers = iter(range(1, 1_000_000))

    @classmethod
    async def join(
        cls, node: ServerProcess, actor: str, pid: str | None = None, offset: str | None = None, **auth: Any
    ) -> Peer:
        more = {} if pid is None else {"pid": pid, "offset": offset or "0"}
        link = await Link.open(node.port, "/" + actor.rpartition("/")[0], {"actor": actor, **more, **auth})
        peer = cls(link, actor)
        async with asyncio.timeout(PATIENCE):
            await peer.hello.wait()
        return peer

    async def _read(self) -> None:
        with contextlib.suppress(Gone):
            async for packet in self._link.packets():
                if packet.kind == "3":
                    self.answers[packet.number or 0] = packet.data[0]
                elif packet.kind == "2" and packet.data[0] == "hello":
                    self.hello.set()
                elif packet.kind == "2" and packet.data[0] != "error":
                    self.messages.append(packet.data[1])
                    self.payloads.append(packet.data[1]["payload"])
                    self.offset = packet.data[2] if len(packet.data) > 2 else None

    async def say(self, to: str, payload: Any, **options: Any) -> None:
        """Returns when it is safe."""
        number = next(self._numbers)
        message = {"ids": {"default": to}, "payload": payload, "options": options}
        await self._link.emit(msgspec.json.encode(["echo", message]), number)
        await until(lambda: number in self.answers)
        assert self.answers[number].get("status") == "queued", self.answers[number]

    def cut(self) -> None:
        self._link.cut()
        self._task.cancel()


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - other processes tell us nothing
            await asyncio.sleep(0.005)


@pytest.fixture
async def peers(installation: Installation) -> AsyncIterator[Peers]:
    peers = Peers(installation)
    yield peers
    for peer in peers.all:
        peer.cut()


class Peers:
    """Clients of one test, on the nodes by their number."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.all: list[Peer] = []

    async def join(self, node: int, actor: str, pid: str | None = None, offset: str | None = None) -> Peer:
        peer = await Peer.join(self.installation.nodes[node], actor, pid, offset)
        self.all.append(peer)
        return peer


async def test_in_at_one_node_and_out_at_another(peers: Peers) -> None:
    alice, bob = await peers.join(0, ALICE), await peers.join(1, BOB)
    for number in range(100):
        await alice.say(BOB, number)
    await until(lambda: len(bob.payloads) >= 100)
    assert bob.payloads == list(range(100))
    assert not any("redelivered" in message for message in bob.messages)
    await bob.say(ALICE, "back")
    await until(lambda: alice.payloads == ["back"])


async def test_what_waits_is_delivered_wherever_its_actor_returns(peers: Peers) -> None:
    alice = await peers.join(0, ALICE)
    for number in range(20):
        await alice.say("ui/456/away", number)
    away = await peers.join(2, "ui/456/away")
    await until(lambda: len(away.payloads) >= 20)
    assert away.payloads == list(range(20))


async def test_a_shared_mailbox_gives_each_message_to_one_node(peers: Peers) -> None:
    alice = await peers.join(0, ALICE)
    people = [await peers.join(node, f"livechat/acme/p{node}") for node in range(3)]
    for number in range(60):
        await alice.say("livechat/acme", number)
    await until(lambda: sum(len(person.payloads) for person in people) >= 60)
    got = sorted(payload for person in people for payload in person.payloads)
    assert got == list(range(60))
    assert all(person.payloads == sorted(person.payloads) for person in people)


async def test_the_newest_session_gets_all_and_its_end_gives_them_back(peers: Peers) -> None:
    bob = await peers.join(0, BOB)
    older = await peers.join(1, "ui/456/moving")
    await bob.say("ui/456/moving", 1)
    await until(lambda: older.payloads == [1])
    newer = await peers.join(2, "ui/456/moving")
    await asyncio.to_thread(sessions_known, peers.installation)
    await bob.say("ui/456/moving", 2)
    await until(lambda: 2 in newer.payloads + older.payloads)
    await bob.say("ui/456/moving", 3)
    await until(lambda: 3 in newer.payloads)
    newer.cut()
    await bob.say("ui/456/moving", 4)
    await until(lambda: 4 in older.payloads)


def sessions_known(installation: Installation) -> list[dict[str, Any]]:
    """What `smart-router nodes --json` says, asked of the first node."""
    command = [str(PROGRAM), "nodes", "--json", "--url", installation.nodes[0].url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nodes"]
    return found


async def test_a_session_goes_on_at_another_node(peers: Peers) -> None:
    bob = await peers.join(0, BOB)
    lost = await peers.join(1, "ui/456/lost")
    for number in range(5):
        await bob.say("ui/456/lost", number)
    await until(lambda: len(lost.payloads) >= 5)
    offset = lost.offset
    lost.cut()
    await bob.say("ui/456/lost", 5)
    again = await peers.join(2, "ui/456/lost", lost.pid, offset)
    assert again.pid == lost.pid, "recovered"
    await until(lambda: 5 in again.payloads)
    assert again.payloads == [5]


@pytest.mark.timeout(60)
async def test_an_actor_that_moves_among_the_nodes_keeps_its_order(peers: Peers) -> None:
    """200 moves under load: each first delivery is in order, nothing is lost."""
    rng = random.Random(11)
    sender = await peers.join(0, BOB)
    target = "ui/456/nomad"
    seen: dict[int, None] = {}
    sent = 0
    stop = asyncio.Event()

    async def talk() -> None:
        nonlocal sent
        while not stop.is_set():
            await sender.say(target, sent)
            sent += 1

    talking = asyncio.ensure_future(talk())
    current: Peer | None = None
    for _ in range(200):
        before = current
        current = await Peer.join(peers.installation.nodes[rng.randrange(3)], target)
        if before is not None:
            seen.update(dict.fromkeys(before.payloads))
            before.cut()
    stop.set()
    await talking
    assert current is not None
    last = current
    await until(lambda: seen.keys() | set(last.payloads) >= set(range(sent)))
    seen.update(dict.fromkeys(last.payloads))
    assert list(seen) == list(range(sent))
    last.cut()


def test_a_sub_endpoint_is_there_on_all_nodes(installation: Installation, start_actors: StartActors) -> None:
    actors = start_actors("socket.io-client")
    root = actors.connect(installation.nodes[0].url, "root", identify=False, namespace="/")
    root.emit("registerNewEndpointId", {"name": "ui", "id": 9000})
    assert root.receive("endpointRegistered") == {}
    late = installation.start()
    for node in installation.nodes:
        join_new(actors, node)
    assert late.stop() == 0
    installation.nodes.remove(late)
    root.close()


def join_new(actors: Actors, node: ServerProcess) -> None:
    """Accepted in a namespace that another node has made; the client comes back until it is known."""
    client = actors.connect(node.url, "ui/9000/x", identify=True)
    client.close()


def test_nodes_are_listed(installation: Installation) -> None:
    found = sessions_known(installation)
    assert {node["address"].rpartition(":")[2] for node in found} >= {str(node.port) for node in installation.nodes[:3]}
    assert all(node["same_configuration"] and not node["trouble"] for node in found)
    done = subprocess.run(
        [str(PROGRAM), "nodes", "--url", installation.nodes[1].url],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        env={"COLUMNS": "200", "PATH": "/usr/bin"},
    )
    assert done.stdout.count("gateway, router") >= 3


async def test_a_node_that_holds_no_clients(installation: Installation) -> None:
    node = await asyncio.to_thread(installation.start, "--role", "router")
    try:
        found = await asyncio.to_thread(sessions_known, installation)
        assert ["router"] in [each["roles"] for each in found]
        with pytest.raises(Gone):
            await Link.open(node.port, "/ui/456", {"actor": ALICE})
    finally:
        assert await asyncio.to_thread(node.stop) == 0
        installation.nodes.remove(node)


@pytest.mark.timeout(60)  # a lease of ten seconds has to end
async def test_what_a_killed_node_held_comes_to_the_next(peers: Peers) -> None:
    installation = peers.installation
    victim = await asyncio.to_thread(installation.start)
    bob = await peers.join(0, BOB)
    held = await Peer.join(victim, "ui/456/held")
    held._link.stall()
    for number in range(10):
        await bob.say("ui/456/held", number)
    await asyncio.to_thread(victim.kill)
    await asyncio.to_thread(victim.stop)  # closes what it was read through
    installation.nodes.remove(victim)
    held.cut()
    again = await peers.join(1, "ui/456/held")
    await until(lambda: len(again.payloads) >= 10)
    assert again.payloads == list(range(10))
