"""Collects what is wrong with the settings; every text has its place, its reason, and what to write instead.

unknown key `mailbx` in [endpoints.ui], line 7: did you mean `mailbox`?
SMART_ROUTER_PORT: expected `int` <= 65535
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from smart_router.config.lines import Path

__all__ = ["Problems", "instead"]


def instead(wrong: str, known: Iterable[str]) -> str:
    """`did you mean …?`, or all there are."""
    known = sorted(known)
    near = get_close_matches(wrong, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"


class Problems:
    """`sources`: the variable or flag of what is not from the file. `places`: paths of built Structs, by their id."""

    def __init__(self, lines: Mapping[Path, int], sources: Mapping[Path, str]) -> None:
        self.found: list[tuple[int, str]] = []
        self.sources = sources
        self.places: dict[int, Path] = {}
        self._lines = lines

    def line(self, path: Path) -> int:
        """Of the key, else of the nearest table around it; 0: not from the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def place(self, path: Path) -> str:
        """`[endpoints.ui], line 7`; a list's position shows in the line only."""
        keys = [part for part in path[:-1] if isinstance(part, str)]
        line = self.line(path)
        table = f"[{'.'.join(keys)}]" if keys else "the top table"
        if len(path) > 1 and isinstance(path[-2], int):
            table = f"[{table}]"
        return f"{table}, line {line}" if line else table

    def of(self, struct: object, key: str, text: str) -> None:
        """A problem of one key of a Struct that was built by `build`."""
        path = self.places.get(id(struct))
        if path is None:
            self.plain(f"`{key}`: {text}")
        else:
            self.value((*path, key), text)

    def itself(self, struct: object, text: str) -> None:
        """A problem of the whole table of a Struct that was built by `build`."""
        self.value(self.places[id(struct)], text)

    def value(self, path: Path, text: str) -> None:
        source = self.sources.get(path)
        if source is not None:
            self.plain(f"{source}: {text}")
            return
        keys = [part for part in path if isinstance(part, str)]
        self._add(path, f"`{keys[-1]}` in {self.place(path)}: {text}")

    def unknown(self, path: Path, known: Iterable[str], later: str | None) -> None:
        kind = f"unknown key `{path[-1]}` in {self.place(path)}"
        if later:
            kind = f"`{path[-1]}` in {self.place(path)}"
        self._add(path, f"{kind}: {later or instead(str(path[-1]), known)}")

    def missing(self, path: Path) -> None:
        self._add(path, f"missing key `{path[-1]}` in {self.place(path)}")

    def plain(self, text: str) -> None:
        self.found.append((0, text))

    def _add(self, path: Path, text: str) -> None:
        self.found.append((self.line(path), text))

    def texts(self) -> list[str]:
        """In the file's order; those of environment and flags first."""
        return [text for _, text in sorted(self.found, key=lambda problem: problem[0])]
