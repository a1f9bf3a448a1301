"""Two hundred Socket.IO clients from npm behind HAProxy, while each of three routers is stopped and started again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clusters.process import free_ports
from tests.conftest import StartNodeClient, StartServer
from tests.deploy.haproxy import HaProxy, haproxy_program
from tests.end_to_end.actors import POLLING, WEBSOCKET, Actor, Actors
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import ServerProcess
from tests.services import StartRabbit, StartRedis

__all__: list[str] = []

CLIENTS = 200
ANSWERED_WITHIN = 60.0


class Routers:
    """Three of them on one broker; each keeps its port and its folder."""

    def __init__(self, start: StartServer, broker: str, folder: Path) -> None:
        self._start = start
        self._environment = {"SMART_ROUTER_BROKER": broker, "SMART_ROUTER_TRUSTED_PROXIES": "127.0.0.1"}
        self._folder = folder
        self.ports = free_ports(3)
        self._running = [self._run(number) for number in range(3)]

    def _run(self, number: int) -> ServerProcess:
        environment = {**self._environment, "SMART_ROUTER_NODE": f"node-{number + 1}"}
        data = self._folder / f"data-{number + 1}"
        return self._start("--config", str(EXAMPLE), port=self.ports[number], data=data, environment=environment)

    def roll(self) -> None:
        """Each one: SIGTERM, the end with status 0, and ready again, before the next."""
        for number, router in enumerate(self._running):
            assert router.stop(20) == 0
            self._running[number] = self._run(number)


@pytest.fixture(params=["rabbit", "redis"])
def broker(request: pytest.FixtureRequest) -> str:
    start: StartRabbit | StartRedis = request.getfixturevalue(f"own_{request.param}")
    return start().url


@pytest.fixture
def routers(start_server: StartServer, broker: str, tmp_path: Path) -> Routers:
    haproxy_program()
    return Routers(start_server, broker, tmp_path)


@pytest.fixture
def clients(routers: Routers, node_client: StartNodeClient, tmp_path: Path) -> Iterator[list[Actor]]:
    """Half of them poll. Each says who it is at every connection, and repeats what is not answered."""
    with HaProxy(tmp_path / "haproxy", routers.ports) as haproxy:
        host = Actors(node_client("actors/actors.cjs", "socket.io-client"))
        actors = []
        for number in range(CLIENTS):
            name = f"ui/456/client-{number}"
            transports = POLLING if number % 2 else WEBSOCKET
            options = {"transports": transports, "withCredentials": True, "retries": 100, "ackTimeout": 3000}
            host.tell("connect", name, haproxy.url, "/ui/456", options, {"actor": name})
            actors.append(Actor(host, name, name))
        for actor in actors:
            actor.receive("hello", ANSWERED_WITHIN)
        yield actors


def send_round(clients: list[Actor], n: int) -> None:
    """Everyone writes to the next one, and is told that it is safe."""
    asked = []
    for number, client in enumerate(clients):
        to = clients[(number + 1) % len(clients)].id
        options = {"id": f"{number}-{n}"}
        asked.append(client.ask("echo", {"ids": {"default": to}, "payload": {"n": n}, "options": options}))
    for client, number in zip(clients, asked, strict=True):
        error, answer = client.expect("answer", ANSWERED_WITHIN, number=number)["args"]
        assert error is None
        assert "error" not in answer, answer


def received(client: Actor, count: int) -> list[int]:
    """The numbers of the first arrivals, in order; repeats are told by the sender's key."""
    numbers, keys = list[int](), set[str]()
    while len(keys) < count:
        message = client.receive("echo", ANSWERED_WITHIN)
        key = message["options"]["id"]
        if key not in keys:
            keys.add(key)
            numbers.append(message["payload"]["n"])
    return numbers


@pytest.mark.fault
def test_a_rolling_restart_of_all_routers_loses_nothing(routers: Routers, clients: list[Actor]) -> None:
    send_round(clients, 0)
    rounds = 1
    with ThreadPoolExecutor(1) as threads:
        rolling = threads.submit(routers.roll)
        while not rolling.done():
            send_round(clients, rounds)
            rounds += 1
        rolling.result()
    send_round(clients, rounds)
    for client in clients:
        assert received(client, rounds + 1) == list(range(rounds + 1))
