"""HAProxy as deploy/ configures it, before two routers: polling sticks to a node, a node that stops is left alone."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from pathlib import Path

import pytest

from tests.conftest import StartNodeClient, StartServer
from tests.deploy.haproxy import CONFIG, HaProxy, haproxy_program
from tests.end_to_end.actors import POLLING, WEBSOCKET, Actor, Actors
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import ServerProcess

__all__: list[str] = []

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COOKIE = "smart_router_node"
CLIENTS = 8


@pytest.fixture
def routers(start_server: StartServer, tmp_path: Path) -> list[ServerProcess]:
    haproxy_program()
    trust = {"SMART_ROUTER_TRUSTED_PROXIES": "127.0.0.1"}
    return [
        start_server("--config", str(EXAMPLE), "--access-log", data=tmp_path / f"data-{number}", environment=trust)
        for number in (1, 2)
    ]


@pytest.fixture
def haproxy(routers: list[ServerProcess], tmp_path: Path) -> Iterator[HaProxy]:
    with HaProxy(tmp_path / "haproxy", [router.port for router in routers]) as haproxy:
        yield haproxy
        haproxy.stop()


@pytest.fixture
def connect(haproxy: HaProxy, node_client: StartNodeClient) -> Callable[[str, list[str]], Actor]:
    """An actor on the Socket.IO client from npm, with cookies as a browser has them; greeted.

    It says who it is in each connection's first packet, and repeats what is not answered within two seconds.
    """
    actors = Actors(node_client("actors/actors.cjs", "socket.io-client"))

    def connect(actor: str, transports: list[str]) -> Actor:
        options = {"transports": transports, "withCredentials": True, "retries": 20, "ackTimeout": 2000}
        actors.tell("connect", actor, haproxy.url, "/" + actor.rsplit("/", 1)[0], options, {"actor": actor})
        client = Actor(actors, actor, actor)
        client.receive("hello")
        return client

    return connect


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, Message, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def sessions(router: ServerProcess) -> int:
    """Of identified actors, now."""
    (found,) = re.findall(r"^smart_router_delivery_sessions (\d+)", get(f"{router.url}/metrics")[2], re.MULTILINE)
    return int(found)


def talk(actors: list[Actor], rounds: int) -> None:
    """Each tells its service something, and is answered that it is safe."""
    for _ in range(rounds):
        numbers = [actor.ask("echo", {"ids": {"default": "agent/456"}, "payload": {}}) for actor in actors]
        for actor, number in zip(actors, numbers, strict=True):
            _, answer = actor.expect("answer", 20, number=number)["args"]
            assert "error" not in answer, answer


def test_the_configuration_is_valid() -> None:
    done = subprocess.run([haproxy_program(), "-c", "-f", CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line or "[ALERT]" in line]
    assert all("could not resolve address 'router-" in line for line in warnings), "\n".join(warnings)


def test_polling_sticks_to_the_node_by_cookie(haproxy: HaProxy, connect: Callable[[str, list[str]], Actor]) -> None:
    actors = [connect(f"ui/456/sticky-{number}", POLLING) for number in range(CLIENTS)]
    talk(actors, 5)
    for actor in actors:
        actor.close()
    haproxy.stop()
    requests = haproxy.lines()
    assert {line.status for line in requests} == {200}, Counter(requests)
    assert Counter(line.server for line in requests).keys() == {"router-1", "router-2"}
    assert len(requests) > CLIENTS * 10
    haproxy.start()


def test_the_cookie_decides_where_a_poll_goes(haproxy: HaProxy) -> None:
    handshake = f"{haproxy.url}/socket.io/?EIO=4&transport=polling"
    status, headers, body = get(handshake)
    assert status == 200
    found = re.match(rf"{COOKIE}=(router-[12]); path=/; HttpOnly; SameSite=Lax", headers["Set-Cookie"])
    assert found, headers["Set-Cookie"]
    poll = f"{handshake}&sid={json.loads(body[1:])['sid']}"
    other = {"router-1": "router-2", "router-2": "router-1"}[found[1]]
    assert get(poll, {"Cookie": f"{COOKIE}={other}"})[0] == 400
    request = urllib.request.Request(poll, data=b"40/ui/456,", headers={"Cookie": f"{COOKIE}={found[1]}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert "Set-Cookie" not in get(poll, {"Cookie": f"{COOKIE}={found[1]}"})[1]


def test_clients_of_a_node_that_stops_come_back_to_another(
    routers: list[ServerProcess], connect: Callable[[str, list[str]], Actor]
) -> None:
    kinds = [POLLING, WEBSOCKET] * (CLIENTS // 2)
    actors = [connect(f"ui/456/moved-{number}", kind) for number, kind in enumerate(kinds)]
    before = [sessions(router) for router in routers]
    assert sum(before) == CLIENTS
    assert min(before) >= 1
    routers[0].signal(signal.SIGTERM)
    assert routers[0].wait(15) == 0
    talk(actors, 1)
    assert sessions(routers[1]) == CLIENTS


def test_nobody_pretends_to_be_another_address(haproxy: HaProxy, routers: list[ServerProcess]) -> None:
    lies = {"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "7.7.7.7", "X-Forwarded-Host": "evil.example"}
    assert get(f"{haproxy.url}/socket.io/?EIO=4&transport=polling", lies)[0] == 200
    logs = "".join(router.log() for router in routers)
    (request,) = [line for line in logs.splitlines() if "http_request" in line and "/socket.io/" in line]
    assert "127.0.0.1" in request
    assert not {"6.6.6.6", "7.7.7.7"} & set(re.findall(r"[\d.]+", request))


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_what_is_for_operators_is_not_for_clients(haproxy: HaProxy, path: str) -> None:
    assert get(haproxy.url + path)[0] == 404
