"""Finds the user's application: `module:attribute`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

from smart_router.errors import ConfigError

__all__ = ["load_attribute", "make_importable"]


def make_importable(config: Path | None) -> None:
    """The configuration file's folder and the current one are looked at first, in this order."""
    folders = [*([str(config.resolve().parent)] if config is not None else []), str(Path.cwd())]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]


def load_attribute(name: str) -> Any:
    """What `module:attribute` names; ConfigError says which part is not there, or where its code raised."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError([f"{module_name} imports {error.name}, which is not installed"]) from error
        places = f"beside the configuration file, in {Path.cwd()}, and among what is installed"
        raise ConfigError([f"no module `{error.name}`: looked {places}"]) from error
    except Exception as error:
        raise ConfigError([f"{module_name} cannot be imported: {_where(error)}"]) from error
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise ConfigError([f"module `{module_name}` has no `{path}`"])
        found = getattr(found, attribute)
    return found


def _where(error: Exception) -> str:
    """`NameError: name 'x' is not defined (app.py, line 3)`: the innermost line of the user's own code."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
