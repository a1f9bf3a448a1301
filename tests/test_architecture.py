"""What the import contracts cannot say of the source: its names, its sizes, its face, and what may not be in it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smart_router
from tests.processes import ROOT

SOURCE = Path(smart_router.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 400
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}

# What `from smart_router import …` promises; whoever changes the face changes this and the docs with it.
FACE: tuple[str, ...] = (
    "ConfigError",
    "Context",
    "EndpointRoutes",
    "Node",
    "ProtocolError",
    "Refused",
    "RouterError",
    "SmartRouter",
    "StorageError",
    "load_settings",
)


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"), filename=str(module))


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def called_name(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def is_only_a_docstring(module: ast.Module) -> bool:
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body)


def assigned_names(module: ast.Module) -> set[str]:
    assignments = [node.targets for node in module.body if isinstance(node, ast.Assign)]
    return {target.id for targets in assignments for target in targets if isinstance(target, ast.Name)}


every_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


@every_module
def test_a_module_says_what_is_public(module: Path) -> None:
    parsed = tree(module)
    assert is_only_a_docstring(parsed) or "__all__" in assigned_names(parsed)


@every_module
def test_a_file_is_one_thing(module: Path) -> None:
    lines = module.read_text("utf-8").count("\n")
    assert lines <= MAX_LINES


@every_module
def test_a_name_says_what_is_inside(module: Path) -> None:
    assert NAMES_THAT_SAY_NOTHING.isdisjoint(module.relative_to(SOURCE).with_suffix("").parts)


@every_module
def test_nothing_runs_code_or_objects_from_data(module: Path) -> None:
    for node in ast.walk(tree(module)):
        assert UNSAFE_MODULES.isdisjoint(name.partition(".")[0] for name in imported(node))
        assert called_name(node) not in UNSAFE_CALLS


@every_module
def test_inside_nobody_imports_the_face(module: Path) -> None:
    if module == SOURCE / "__init__.py":
        return
    assert "smart_router" not in [name for node in ast.walk(tree(module)) for name in imported(node)]


def test_the_face_is_what_is_documented() -> None:
    assert sorted(smart_router.__all__) == sorted(FACE)
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    listed = page.partition("## The package's face")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", listed, re.MULTILINE)) == sorted(FACE)


def test_every_name_of_the_face_is_there() -> None:
    for name in FACE:
        assert getattr(smart_router, name).__name__ == name
    assert not hasattr(smart_router, "Nonsense")


def test_the_face_costs_no_server_package_until_one_is_asked_for() -> None:
    program = "import sys, smart_router; sys.exit('litestar' in sys.modules or 'picows' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
