"""The report: medians, ratios, goals, rows of the results file."""

from pathlib import Path

from benchmarks.goals import GOALS, Goal
from benchmarks.report import COLUMNS, Row, append_rows, faults, goals, medians, ratios, table
from benchmarks.variants import VARIANTS

__all__: list[str] = []


def row(variant: str, *cpu: float, p99: float = 800) -> Row:
    made = Row(variant)
    for value in cpu:
        made.add("sat", {"cpu_us_per_message": value, "messages_per_second": 1e6 / value, "repeated": 0})
    made.add("rate", {"cpu_us_per_message": 60, "p99_us": p99})
    return made


def test_the_median_is_taken_per_column_and_mode() -> None:
    values = medians(row("node", 9, 30, 10))
    assert values["cpu_us_per_message"] == 10
    assert values["messages_per_second"] == 100_000
    assert values["cpu_us_at_rate"] == 60
    assert "kb_per_connection" not in values


def test_the_offline_mode_fills_the_columns_of_the_closed_loop() -> None:
    offline = Row("offline")
    offline.add("offline", {"messages_per_second": 25_000})
    assert medians(offline) == {"messages_per_second": 25_000}


def test_ratios_divide_by_the_peer_and_leave_out_what_was_not_measured() -> None:
    head, _, *body = ratios([row("node", 10), row("durable", 8, p99=400)]).splitlines()
    assert [cell.strip() for cell in head.split("|")] == ["", "", "CPU ÷ node", "p99 ÷ node", ""]
    assert [cell.strip() for cell in body[1].split("|")] == ["", "durable", "0.80", "0.50", ""]
    assert ratios([row("durable", 8)]) == ""


def test_a_goal_is_reached_on_its_own_side_of_the_bound() -> None:
    wanted = [Goal("durable", "cpu_us_per_message", "node", 0.9), Goal("durable", "messages_per_second", "", 2e5, True)]
    text = goals([row("node", 10), row("durable", 8)], wanted)
    assert [line.rstrip("| ").split()[-1] for line in text.splitlines()[2:]] == ["reached", "missed"]
    assert goals([row("durable", 8)], wanted[:1]) == ""


def test_goals_name_variants_and_columns_that_exist() -> None:
    names = {variant.name for variant in VARIANTS} | {""}
    assert {goal.variant for goal in GOALS} | {goal.base for goal in GOALS} <= names
    assert {goal.column for goal in GOALS} <= set(COLUMNS)


def test_faults_are_summed_and_shown_only_when_there_are_any() -> None:
    broken = row("durable", 8)
    broken.add("sat", {"cpu_us_per_message": 8, "repeated": 2, "unfinished": 1})
    assert faults(broken) == {"repeated": 2, "unfinished": 1}
    assert faults(row("durable", 8)) == {}


def test_the_table_has_a_line_for_each_variant() -> None:
    assert [line.split("|")[1].strip() for line in table([row("node", 10), row("durable", 8)]).splitlines()[2:]] == [
        "node",
        "durable",
    ]


def test_results_are_appended_below_one_heading(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    for revision in ("one", "two"):
        append_rows(file, {"date": "2026-11-22", "revision": revision}, [row("node", 10, 12, 11)])
    head, first, second = file.read_text().splitlines()
    assert head.startswith("date,revision,variant,repeats,cpu_us_per_message")
    assert first.startswith("2026-11-22,one,node,3,11,")
    assert second.startswith("2026-11-22,two,node,3,11,")
