"""A Redis Cluster of a test's own: three masters, no replicas, every command on disk before its answer."""

from collections.abc import Sequence
from pathlib import Path

from tests.clusters.cluster import Cluster
from tests.clusters.process import free_ports
from tests.clusters.redis import OwnRedis

__all__ = ["RedisCluster"]

_SLOTS = 16_384
_MASTERS = 3
_SETTINGS = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")


class RedisCluster(Cluster[OwnRedis]):
    """`with RedisCluster(folder) as cluster: cluster.url`. Starts within two seconds.

    A node that comes back has its slots. As Redis has it by default, no key is served while a part of them is away for
    longer than two seconds; `arguments` of redis-server may say otherwise.
    """

    def __init__(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        self._bus_ports = free_ports(_MASTERS)
        super().__init__(
            [
                OwnRedis(folder / f"node-{number}", (*_SETTINGS, "--cluster-port", str(port), *arguments))
                for number, port in enumerate(self._bus_ports)
            ]
        )

    @property
    def url(self) -> str:
        """Of the first node; the others are found from it."""
        return self.nodes[0].url

    def node_of(self, key: str) -> OwnRedis:
        """The master that has the key's slot."""
        slot = int(self.alive.call("CLUSTER", "KEYSLOT", key).lstrip(":"))
        return self.nodes[next(number for number in range(_MASTERS) if slot in _slots(number))]

    def join(self) -> None:
        for number, node in enumerate(self.nodes):
            slots = _slots(number)
            node.call("CLUSTER", "ADDSLOTSRANGE", str(slots[0]), str(slots[-1]))
            node.call("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node, bus_port in zip(self.nodes[1:], self._bus_ports[1:], strict=True):
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus_port))

    def sees_all(self, node: OwnRedis) -> bool:
        told = node.call("CLUSTER", "INFO").splitlines()
        return {"cluster_state:ok", f"cluster_slots_ok:{_SLOTS}", f"cluster_known_nodes:{_MASTERS}"} <= set(told)


def _slots(number: int) -> range:
    return range(number * _SLOTS // _MASTERS, (number + 1) * _SLOTS // _MASTERS)
