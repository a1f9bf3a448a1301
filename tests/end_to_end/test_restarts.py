"""Restarts under the npm client: it comes back by itself, and with its own retries nothing is lost or doubled."""

from collections.abc import Callable

import pytest

from tests.conftest import StartNodeClient, StartServer
from tests.end_to_end.actors import POLLING, UPGRADE, WEBSOCKET, Actor, Actors
from tests.end_to_end.conftest import EXAMPLE
from tests.processes import ServerProcess

__all__: list[str] = []

MESSAGES = 400
Restart = Callable[[ServerProcess], ServerProcess]


@pytest.fixture
def begin(start_server: StartServer, free_port: int) -> Callable[[], ServerProcess]:
    """Starts the example, always on the same port and the same folder."""
    return lambda: start_server("--config", str(EXAMPLE), port=free_port)


@pytest.mark.slow
def test_sigterm_under_load(begin: Callable[[], ServerProcess], node_client: StartNodeClient) -> None:
    """L6: exit status 0, the clients come back, and what was acknowledged has arrived."""

    def stop(server: ServerProcess) -> ServerProcess:
        assert server.stop() == 0
        return begin()

    through_restarts(Actors(node_client("actors/actors.cjs", "socket.io-client")), begin(), [stop])


@pytest.mark.fault
def test_kills_under_load(begin: Callable[[], ServerProcess], node_client: StartNodeClient) -> None:
    def kill(server: ServerProcess) -> ServerProcess:
        server.kill()
        return begin()

    through_restarts(Actors(node_client("actors/actors.cjs", "socket.io-client")), begin(), [kill] * 5)


def through_restarts(actors: Actors, server: ServerProcess, restarts: list[Restart]) -> None:
    """Three pages on three transports send to a bot while the server goes and comes; all arrives, in order, once."""
    bot_name = "agent/456/bot"
    bot = actors.connect(server.url, bot_name, identify=False, auth={"actor": bot_name})
    bot.receive("hello")
    pages = [sender(actors, server.url, f"page-{kind[0]}-{len(kind)}", kind) for kind in (WEBSOCKET, POLLING, UPGRADE)]
    each = MESSAGES * len(restarts)
    for page in pages:
        for n in range(each):
            options = {"id": f"{page.id}-{n}"}
            page.emit("talk", {"ids": {"agent": bot_name}, "payload": n, "options": options})
    heard: dict[str, dict[int, str]] = {page.id: {} for page in pages}
    for number, restart in enumerate(restarts, 1):
        take(bot, heard, number * each // (len(restarts) + 1))
        server = restart(server)
        for page in pages:
            page.expect("reconnect")
    take(bot, heard, each)
    assert all(list(own) == list(range(each)) for own in heard.values())


def sender(actors: Actors, url: str, name: str, transports: list[str]) -> Actor:
    actor = f"ui/456/{name}"
    page = actors.connect(url, actor, transports=transports, identify=False, auth={"actor": actor}, retries=100)
    page.receive("hello")
    return page


def take(bot: Actor, heard: dict[str, dict[int, str]], least: int) -> None:
    """Until each sender has come so far. A repeat has the id that it had, or is one that its sender repeated."""
    while min(len(own) for own in heard.values()) < least:
        message = bot.receive("talk")
        own, n = heard[message["from"]], message["payload"]
        assert n in own or n == len(own), "in order"
        own.setdefault(n, message["id"])
