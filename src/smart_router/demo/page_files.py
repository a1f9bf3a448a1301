"""The chat page as it is shipped: plain modules, nothing to build."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["page_files"]


def page_files() -> dict[str, bytes]:
    """Each file's content by its name; for `api.create_api(page=…)`. Read when called."""
    return {file.name: file.read_bytes() for file in (files("smart_router.demo") / "page").iterdir() if file.is_file()}
