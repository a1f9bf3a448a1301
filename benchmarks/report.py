"""From the generator's results to medians, a table, ratios and rows of results.csv."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.goals import Goal

__all__ = ["COLUMNS", "FAULTS", "Row", "append_rows", "faults", "goals", "medians", "ratios", "table"]

FAULTS = ("refused", "errors", "repeated", "misordered", "unfinished")

# column: (the generator's modes that measure it, its name there)
COLUMNS: dict[str, tuple[tuple[str, ...], str]] = {
    "cpu_us_per_message": (("sat", "offline"), "cpu_us_per_message"),
    "messages_per_second": (("sat", "offline"), "messages_per_second"),
    "p50_us": (("rate",), "p50_us"),
    "p99_us": (("rate",), "p99_us"),
    "ack_p50_us": (("rate",), "ack_p50_us"),
    "ack_p99_us": (("rate",), "ack_p99_us"),
    "cpu_us_at_rate": (("rate",), "cpu_us_per_message"),
    "kb_per_connection": (("idle",), "kb_per_connection"),
    "generator_cpu_percent": (("sat", "offline"), "generator_cpu_percent"),
}

# heading, column, digits behind the point, divisor
_TABLE = (
    ("CPU µs/msg", "cpu_us_per_message", 1, 1),
    ("messages/s", "messages_per_second", 0, 1),
    ("p50 ms", "p50_us", 2, 1000),
    ("p99 ms", "p99_us", 2, 1000),
    ("ack p99 ms", "ack_p99_us", 2, 1000),
    ("CPU µs at rate", "cpu_us_at_rate", 0, 1),
    ("kB/connection", "kb_per_connection", 1, 1),
    ("generator %", "generator_cpu_percent", 0, 1),
)

# heading, column, the peer that is divided by
_RATIOS = (
    ("CPU ÷ node", "cpu_us_per_message", "node"),
    ("CPU ÷ node-ack", "cpu_us_per_message", "node-ack"),
    ("p99 ÷ node", "p99_us", "node"),
    ("kB ÷ node", "kb_per_connection", "node"),
    ("CPU ÷ py", "cpu_us_per_message", "python-socketio"),
    ("msg/s ÷ py", "messages_per_second", "python-socketio"),
    ("msg/s ÷ py-ack", "messages_per_second", "python-socketio-ack"),
    ("kB ÷ py", "kb_per_connection", "python-socketio"),
)

Result = Mapping[str, float]


@dataclass
class Row:
    """One variant: its results per mode, in the order of the repetitions."""

    variant: str
    results: dict[str, list[Result]] = field(default_factory=dict)

    def add(self, mode: str, result: Result) -> None:
        """Keep one result of the generator."""
        self.results.setdefault(mode, []).append(result)


def medians(row: Row) -> dict[str, float]:
    """Return the median of each column that was measured."""
    found: dict[str, float] = {}
    for column, (modes, name) in COLUMNS.items():
        values = [result[name] for mode in modes for result in row.results.get(mode, []) if name in result]
        if values:
            found[column] = statistics.median(values)
    return found


def faults(row: Row) -> dict[str, int]:
    """Return what went wrong, summed over all results: a figure with faults is not comparable."""
    results = [result for repeated in row.results.values() for result in repeated]
    sums = {name: int(sum(result.get(name, 0) for result in results)) for name in FAULTS}
    return {name: count for name, count in sums.items() if count}


def _lines(heads: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    rows = [list(heads), *map(list, body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    padded = [
        "| "
        + " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|"
    return [padded[0], rule, *padded[1:]]


def table(rows: Iterable[Row]) -> str:
    """Return the medians as a Markdown table."""
    body = []
    for row in rows:
        values = medians(row)
        cells = [f"{values[key] / unit:,.{digits}f}" if key in values else "" for _, key, digits, unit in _TABLE]
        body.append([row.variant, *cells])
    return "\n".join(_lines(["", *(head for head, *_ in _TABLE)], body))


def ratios(rows: Iterable[Row]) -> str:
    """Return each variant's figures divided by the peers', as a Markdown table; empty if no peer was measured."""
    measured = {row.variant: medians(row) for row in rows}
    columns = [(head, key, peer) for head, key, peer in _RATIOS if measured.get(peer, {}).get(key)]
    body = []
    for variant, values in measured.items():
        cells = [f"{values[key] / measured[peer][key]:.2f}" if key in values else "" for _, key, peer in columns]
        body.append([variant, *cells])
    return "\n".join(_lines(["", *(head for head, *_ in columns)], body)) if columns else ""


def goals(rows: Iterable[Row], wanted: Iterable[Goal]) -> str:
    """Return what is to be reached beside what was measured, as a Markdown table; empty if nothing of it was."""
    measured = {row.variant: medians(row) for row in rows}
    body = []
    for goal in wanted:
        value = goal.measured(measured)
        if value is not None:
            body.append([goal.text, f"{value:,.4g}", goal.wanted, "reached" if goal.is_reached(value) else "missed"])
    return "\n".join(_lines(["goal", "measured", "to reach", ""], body)) if body else ""


def append_rows(file: Path, about: Mapping[str, str], rows: Iterable[Row]) -> None:
    """Append one line per variant to the CSV file; `about` (date, revision, …) stands in front of each."""
    heads = [*about, "variant", "repeats", *COLUMNS, "faults"]
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        if is_new:
            writer.writerow(heads)
        for row in rows:
            values = medians(row)
            repeats = max((len(results) for results in row.results.values()), default=0)
            cells = [f"{values[column]:.6g}" if column in values else "" for column in COLUMNS]
            wrong = " ".join(f"{name}={count}" for name, count in faults(row).items())
            writer.writerow([*about.values(), row.variant, repeats, *cells, wrong])
