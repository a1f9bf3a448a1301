"""Finding `module:attribute`, and what is said when it cannot be found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smart_router.config.attribute import load_attribute, make_importable
from smart_router.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    make_importable(tmp_path / "smart-router.toml")
    return tmp_path


def test_the_configurations_folder_is_looked_at_first(folder: Path) -> None:
    (folder / "attribute_found.py").write_text("class a:\n    b = 3\n")
    assert load_attribute("attribute_found:a.b") == 3
    assert sys.path[:2] == [str(folder), str(Path.cwd())]


@pytest.mark.parametrize(
    ("code", "name", "problem"),
    [
        (None, "attribute_absent:app", "no module `attribute_absent`: looked beside the configuration file, in "),
        ("", "attribute_empty:app", "module `attribute_empty` has no `app`"),
        ("import no_such_package", "attribute_needs:app", "attribute_needs imports no_such_package, which is not "),
        ("x = 1\ny = z", "attribute_broken:app", "attribute_broken cannot be imported: NameError: name 'z' is not "),
        ("def", "attribute_syntax:app", "attribute_syntax cannot be imported: SyntaxError: invalid syntax ("),
    ],
)
def test_what_is_missing_is_named(folder: Path, code: str | None, name: str, problem: str) -> None:
    if code is not None:
        (folder / f"{name.partition(':')[0]}.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        load_attribute(name)
    [text] = caught.value.problems
    assert text.startswith(problem)
    if "NameError" in problem:
        assert text.endswith("attribute_broken.py, line 2)")
