"""Sub-endpoints added at run time: three answers, each with its exact text; still there after a restart."""

from pathlib import Path

from tests.conftest import StartNodeClient, StartServer
from tests.end_to_end.actors import Actor, Actors
from tests.end_to_end.conftest import EXAMPLE

__all__: list[str] = []


def root(actors: Actors, url: str) -> Actor:
    client = actors.connect(url, "nobody", identify=False, namespace="/")
    client.expect("connect")
    return client


def test_three_answers(actors: Actors, url: str, unique: str) -> None:
    admin = root(actors, url)
    admin.emit("registerNewEndpointId", {"name": "agent", "id": 458})
    assert admin.receive("endpointRegistered") == {}
    admin.emit("registerNewEndpointId", {"name": "agent", "id": 458})
    assert admin.receive("endpointRegistered") == {"message": "Endpoint [/agent/458] already exists. Aborted."}
    admin.emit("registerNewEndpointId", {"name": "toto", "id": 1})
    assert admin.receive("endpointRegistrationError") == {"message": "[toto] is not a valid Endpoint."}

    bot = actors.connect(url, f"agent/458/bot-{unique}")
    bot.emit("echo", {"ids": {"default": bot.id}})
    assert bot.receive("echo")["from"] == bot.id


def test_the_root_namespace_has_nothing_else(actors: Actors, url: str) -> None:
    admin = root(actors, url)
    admin.emit("talk", {"ids": {}})
    first = admin.expect("event")
    assert (first["type"], first["args"][0]["code"]) == ("error", "unknown_event")


def test_still_there_after_a_restart(start_server: StartServer, node_client: StartNodeClient, data_dir: Path) -> None:
    actors = Actors(node_client("actors/actors.cjs", "socket.io-client"))
    first = start_server("--config", str(EXAMPLE))
    admin = root(actors, first.url)
    admin.emit("registerNewEndpointId", {"name": "agent", "id": "new"})
    assert admin.receive("endpointRegistered") == {}
    admin.close()
    first.kill()
    second = start_server("--config", str(EXAMPLE), data=data_dir)
    bot = actors.connect(second.url, "agent/new/bot")
    bot.emit("echo", {"ids": {"default": bot.id}})
    assert bot.receive("echo")["from"] == bot.id
