"""The table of the failure benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from faults.checker import Verdict
from faults.run import Outcome

__all__ = ["faults", "table", "write_page"]

_COUNTS = (
    "sent",
    "acknowledged",
    "received",
    "lost",
    "misordered",
    "forged",
    "unacknowledged",
    "repeated",
    "unmarked",
    "other_id",
    "late",
)
_MARK = "<!-- figures, {part}: up to the next mark written by script/faults --page -->"
_END = "<!-- end -->"


def table(outcomes: Iterable[Outcome]) -> str:
    """One row per scenario and class, as Markdown."""
    heads = ("scenario", "class", *(name.replace("_", " ") for name in _COUNTS), "longest wait", "back within", "RSS")
    rows = [heads, tuple("---" if n < 2 else "--:" for n in range(len(heads)))]
    for outcome in outcomes:
        rows += [_row(outcome, verdict) for verdict in outcome.verdicts]
    widths = [max(len(row[n]) for row in rows) for n in range(len(heads))]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows)


def write_page(path: Path, part: str, outcomes: Sequence[Outcome], command: str) -> None:
    """Replaces what stands between the marks of this part by this command and its table. ValueError without marks."""
    mark = _MARK.format(part=part)
    before, found, rest = path.read_text("utf-8").partition(mark)
    _, end, after = rest.partition(_END)
    if not found or not end:
        raise ValueError(f"{path} has no place for these figures: {mark} … {_END}")
    figures = f"```sh\n{command}\n```\n\n{table(outcomes)}\n\nFaults:\n\n{faults(outcomes)}"
    path.write_text(f"{before}{mark}\n\n{figures}\n\n{_END}{after}", "utf-8")


def faults(outcomes: Iterable[Outcome]) -> str:
    """What each scenario consisted of, as a Markdown list."""
    counts = ((outcome.scenario, Counter(step.fault for step in outcome.steps)) for outcome in outcomes)
    return "\n".join(
        f"- {scenario}: " + ", ".join(f"{number} {fault}" for fault, number in sorted(count.items()))
        for scenario, count in counts
    )


def _row(outcome: Outcome, verdict: Verdict) -> tuple[str, ...]:
    back = "–" if outcome.slowest_return is None else f"{outcome.slowest_return:.1f} s"
    figures = (str(getattr(verdict, name)) for name in _COUNTS)
    wait = f"{verdict.longest_wait:.1f} s"
    return (outcome.scenario, verdict.name, *figures, wait, back, f"{outcome.resident / 1e6:.0f} MB")
