"""The page: each part's figures are replaced, and nothing else of it."""

from pathlib import Path

import pytest

from faults.checker import Verdict
from faults.report import write_page
from faults.run import Outcome
from faults.schedule import Step
from tests.processes import ROOT

__all__: list[str] = []

OUTCOME = Outcome("kills", [Step(1.0, "kill")], [Verdict("received", sent=7)], [], 1.25, 90_000_000)


def mark(part: str) -> str:
    return f"<!-- figures, {part}: up to the next mark written by script/faults --page -->"


def test_only_the_figures_of_the_part_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"words\n{mark('redis')}\nold\n<!-- end -->\nmore\n{mark('one node')}\nother\n<!-- end -->\n")
    write_page(page, "redis", [OUTCOME], "script/faults --full")
    before, _, rest = page.read_text().partition(mark("redis"))
    figures, _, after = rest.partition("<!-- end -->")
    assert (before, after) == ("words\n", f"\nmore\n{mark('one node')}\nother\n<!-- end -->\n")
    assert "old" not in figures
    assert "script/faults --full" in figures
    assert "| kills    | received | 7 " in figures
    assert "- kills: 1 kill" in figures


def test_a_page_without_a_place_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("words")
    with pytest.raises(ValueError, match="no place"):
        write_page(page, "redis", [OUTCOME], "script/faults")
    assert page.read_text() == "words"


@pytest.mark.parametrize("part", ["one node", "rabbitmq", "redis"])
def test_the_documentation_has_a_place_for_each_part(part: str) -> None:
    assert mark(part) in (ROOT / "docs" / "failure-benchmark.md").read_text("utf-8")
