"""The opt-in compiled build: with SMART_ROUTER_COMPILE=1 the wheel holds the hot modules as machine code too (ADR 11).

Without it nothing here runs, and the wheel is pure Python. Sources stay in the wheel: tracebacks quote them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CompileHook"]

_NEEDS = ["mypy==2.4.1", "setuptools>=80"]


class CompileHook(BuildHookInterface[Any]):
    """Compiles the modules listed under `modules` in pyproject.toml, all in one unit, with mypyc."""

    PLUGIN_NAME = "custom"

    def _is_wanted(self) -> bool:
        return os.environ.get("SMART_ROUTER_COMPILE") == "1"

    def dependencies(self) -> list[str]:
        """mypyc, and what the modules import: their types decide what the code becomes."""
        if not self._is_wanted():
            return []
        extras = self.metadata.core.optional_dependencies.values()
        return [*_NEEDS, *self.metadata.core.dependencies, *(each for extra in extras for each in extra)]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not self._is_wanted():
            return
        _check_compiler()
        self._folder = tempfile.mkdtemp(prefix="smart-router-compile-")
        for library in _compile(Path(self.root), self.config["modules"], Path(self._folder)):
            build_data["force_include"][str(library)] = library.relative_to(Path(self._folder, "lib")).as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if not build_data["pure_python"]:
            shutil.rmtree(self._folder)


def _check_compiler() -> None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise SystemExit(f"SMART_ROUTER_COMPILE=1 needs a C compiler, and there is no {compiler!r} (Debian: gcc)")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise SystemExit(f"SMART_ROUTER_COMPILE=1 needs Python's headers: there is no {header} (Debian: python3-dev)")


def _compile(root: Path, modules: list[str], folder: Path) -> list[Path]:
    """The libraries, below `folder`/lib where they belong in site-packages."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    options = ["--strict", f"--cache-dir={folder / 'cache'}"]
    paths = [str(root / "src/smart_router" / module) for module in modules]
    extensions = mypycify(options + paths, target_dir=str(folder / "c"), debug_level="0", group_name="smart_router")
    command: Any = Distribution({"name": "smart-router", "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "lib"), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    return [path for path in (folder / "lib").rglob("*") if path.is_file()]
