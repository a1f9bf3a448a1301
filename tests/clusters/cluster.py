"""Several servers of a test's own that are one cluster."""

from collections.abc import Sequence
from functools import partial
from typing import Generic, Self, TypeVar

from tests.clusters.process import OwnServer

__all__ = ["Cluster"]

_FORM_TIMEOUT = 60.0

Node = TypeVar("Node", bound=OwnServer)


class Cluster(Generic[Node]):
    """`nodes` are killed, paused and started one by one; each comes back with its ports and its data."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def start(self) -> None:
        """All nodes at once; they are one cluster when this returns."""
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.await_start()
        self.join()
        self.await_whole()

    def join(self) -> None:
        """Makes them one, where they don't find each other."""

    def sees_all(self, node: Node) -> bool:
        """Whether this node knows of all others that they serve."""
        raise NotImplementedError

    @property
    def alive(self) -> Node:
        """A node that serves."""
        return next(node for node in self.nodes if node.running and node.answers())

    def await_whole(self) -> None:
        """Every node sees all others when this returns."""
        for node in self.nodes:
            node.await_that(partial(self.sees_all, node), _FORM_TIMEOUT, "be part of the cluster")

    def repair(self) -> None:
        """What is down or paused runs again."""
        for node in self.nodes:
            node.revive()
        self.await_whole()

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
