"""The load generator builds, and says so when it cannot; the configurations are ones that the program takes."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from benchmarks.tools import BENCHMARKS, ToolError, build_generator
from benchmarks.variants import VARIANTS, choose
from smart_router.config.schema import Settings

__all__: list[str] = []

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


@needs_compiler
def test_the_generator_builds_once_and_shows_its_usage(tmp_path: Path) -> None:
    program = build_generator(tmp_path)
    built = program.stat().st_mtime_ns
    shown = subprocess.run([program], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "usage: loadgen sat|rate|idle|offline" in shown.stderr
    assert build_generator(tmp_path).stat().st_mtime_ns == built


@needs_compiler
def test_the_generator_names_a_mistake_on_its_command_line(tmp_path: Path) -> None:
    done = subprocess.run([build_generator(tmp_path), "sat"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "loadgen: --port and --pid are needed\n")


def test_without_a_compiler_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    with pytest.raises(ToolError, match="install gcc or clang"):
        build_generator(tmp_path)


@pytest.mark.parametrize("name", sorted({variant.config for variant in VARIANTS} - {""}))
def test_a_variant_has_a_configuration_that_the_program_takes(name: str) -> None:
    text = (BENCHMARKS / "app" / f"{name}.toml").read_text(encoding="utf-8")
    settings = msgspec.convert(tomllib.loads(text), Settings)
    if settings.server.gateways[0].handler is None:
        assert settings.routes[0].type == "echo"
    else:  # a program of its own routes
        assert not settings.routes


def test_variants_are_chosen_by_pattern() -> None:
    assert [variant.name for variant in choose("node*, idle", quick=False)] == ["node", "node-ack", "idle"]
    assert [variant.name for variant in choose("idle*", quick=False)] == ["idle", "idle-compiled"]
    assert not any(variant.compiled for variant in choose("", quick=False))
    assert {variant.name for variant in choose("", quick=True)} < {variant.name for variant in VARIANTS}
    with pytest.raises(ValueError, match="no variant 'fast'"):
        choose("fast", quick=False)
