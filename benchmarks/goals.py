"""What the figures are to reach, each beside what was measured. Printed, never asserted."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GOALS", "Goal"]

Figures = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Goal:
    """`variant`'s `column`, divided by that of `base` unless that is empty, is to be at most or at least `bound`."""

    variant: str
    column: str
    base: str
    bound: float
    at_least: bool = False

    @property
    def text(self) -> str:
        """What is compared."""
        return f"{self.variant}: {self.column}" + (f" ÷ {self.base}" if self.base else "")

    @property
    def wanted(self) -> str:
        """The bound, with its sign."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g}"

    def measured(self, figures: Figures) -> float | None:
        """Return the figure, or None if a variant that it needs was not measured."""
        ours = figures.get(self.variant, {}).get(self.column)
        theirs = figures.get(self.base, {}).get(self.column) if self.base else 1.0
        return ours / theirs if ours is not None and theirs else None

    def is_reached(self, value: float) -> bool:
        """Tell whether the figure is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


GOALS = (
    Goal("durable", "cpu_us_per_message", "node", 0.9),
    Goal("durable-ack", "cpu_us_per_message", "node-ack", 0.9),
    Goal("memory-sent", "cpu_us_per_message", "node", 0.5),
    Goal("memory-sent-ack", "cpu_us_per_message", "node-ack", 0.5),
    Goal("durable", "messages_per_second", "python-socketio", 8, at_least=True),
    Goal("durable-ack", "messages_per_second", "python-socketio-ack", 8, at_least=True),
    Goal("durable", "p99_us", "node", 1.0),
    Goal("idle", "kb_per_connection", "", 18),
    Goal("mailboxes-100000", "cpu_us_per_message", "mailboxes-100", 1.2),
    Goal("offline-100000", "cpu_us_per_message", "offline-100", 1.2),
    Goal("offline", "messages_per_second", "", 20_000, at_least=True),
)
