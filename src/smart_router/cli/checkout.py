"""Files that stand beside the package: in the wheel, or in the repository of an editable install."""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_file", "repository"]

_PACKAGE = Path(__file__).resolve().parents[1]


def repository() -> Path | None:
    """The root of the checkout that this package runs from; None when it is installed from a wheel."""
    root = _PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "src" / "smart_router") == _PACKAGE else None


def demo_file() -> Path | None:
    """The live chat's configuration: the wheel's copy, else the repository's."""
    root = repository()
    places = [_PACKAGE / "demo", *([root / "examples" / "live_chat"] if root is not None else [])]
    files = (place / "smart-router.toml" for place in places)
    return next((file for file in files if file.is_file()), None)
