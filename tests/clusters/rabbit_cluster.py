"""A RabbitMQ cluster of a test's own: three nodes on one machine, with one port mapper and one cookie."""

import json
import secrets
from pathlib import Path

from tests.clusters.cluster import Cluster
from tests.clusters.rabbitmq import Epmd, OwnRabbit

__all__ = ["RabbitCluster"]

_NODES = 3


class RabbitCluster(Cluster[OwnRabbit]):
    """`with RabbitCluster(folder) as cluster: cluster.url`. Starts within half a minute on a busy machine.

    Two of the three must run for a quorum queue to take and to give: that is RabbitMQ's rule.
    """

    def __init__(self, folder: Path) -> None:
        self._epmd = Epmd(folder / "epmd")
        mark, cookie = secrets.token_hex(3), secrets.token_hex(16)
        names = [f"sr{number + 1}-{mark}" for number in range(_NODES)]
        peers = tuple(f"{name}@localhost" for name in names)
        super().__init__([OwnRabbit(folder / name, name, self._epmd, cookie, peers) for name in names])

    @property
    def url(self) -> str:
        """With the places of all nodes."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"amqp://guest:guest@{places}/"

    def leader_of(self, queue: str, vhost: str = "/") -> OwnRabbit:
        """The node that leads a quorum queue; AssertionError when it has no leader now."""
        found = f"{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r({_binary(vhost)}, queue, {_binary(queue)}))"
        asked = self.alive.ctl("eval", f"{found}, [{{leader, Node}}] = rabbit_quorum_queue:info(Q, [leader]), Node.")
        leaders = [node for node in self.nodes if node.node == asked.strip("'")]
        assert leaders, f"`{queue}` has no leader: {asked}"
        return leaders[0]

    def sees_all(self, node: OwnRabbit) -> bool:
        status = json.loads(node.ctl("cluster_status", "--formatter", "json"))
        return len(status["running_nodes"]) == _NODES

    def close(self) -> None:
        super().close()
        self._epmd.close()


def _binary(text: str) -> str:
    return f"<<{','.join(map(str, text.encode()))}>>"
