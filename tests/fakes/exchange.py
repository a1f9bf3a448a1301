"""A LocalExchange with the faults of a network: nodes cut off, publications lost."""

from collections.abc import Callable, Iterable

from smart_router.bus.local import LocalBus, LocalExchange

__all__ = ["FaultyExchange"]


class FaultyExchange(LocalExchange):
    """`part` and `heal` a node; `lose`: (from, to) → this publication does not arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.parted: set[str] = set()
        self.lose: Callable[[str, str], bool] = lambda node, other: False

    def part(self, bus: LocalBus) -> None:
        """It neither hears nor is heard, and knows it."""
        self.parted.add(bus.node)

    def heal(self, bus: LocalBus) -> None:
        self.parted.discard(bus.node)
        bus.on_up()

    def trouble(self, node: str) -> str:
        return "cut off" if node in self.parted else ""

    def others(self, node: str) -> Iterable[LocalBus]:
        return [bus for bus in super().others(node) if self._arrives(node, bus.node)]

    def one(self, node: str, other: str) -> LocalBus | None:
        return super().one(node, other) if self._arrives(node, other) else None

    def _arrives(self, node: str, other: str) -> bool:
        return other not in self.parted and not self.lose(node, other)
