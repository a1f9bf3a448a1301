"""Where each key of a TOML text stands: tomllib gives values without lines.

The text must be valid TOML (tomllib has read it), so this walks it and checks nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

__all__ = ["Path", "find_lines"]

Path = tuple[str | int, ...]
"""Keys and list positions from the root: ("endpoints", "ui", "mailbox"), ("routes", 0, "publish", 1, "to")."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*(\.?)""")
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_BARE: Final = re.compile(r"[^,\]}\n#]*")


def find_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every table header and key; an array of tables counts its tables as list positions."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._table: Path = ()

    def scan(self) -> dict[Path, int]:
        self._skip_blank()
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                self._header()
            else:
                self._pair(self._table)
            self._skip_blank()
        return self._lines

    def _skip_blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _mark(self, path: Path) -> None:
        if path not in self._lines:
            self._lines[path] = bisect_left(self._ends, self._at) + 1

    def _key(self) -> list[str]:
        parts: list[str] = []
        while found := _KEY.match(self._text, self._at):
            key = found.group(1)
            parts.append(key[1:-1] if key[0] in "\"'" else key)
            self._at = found.end()
            if not found.group(2):
                break
        return parts

    def _header(self) -> None:
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        array = brackets == 2
        self._at += brackets
        keys = self._key()
        path: Path = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if array and index == len(keys) - 1:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
            self._mark(path)
        self._table = path
        self._at += brackets

    def _pair(self, table: Path) -> None:
        start = self._at
        keys = self._key()
        after = self._at
        self._at = start
        path = table
        for key in keys:
            path = (*path, key)
            self._mark(path)
        self._at = self._text.find("=", after) + 1 or len(self._text)
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip_blank()
        if found := _STRING.match(self._text, self._at):
            self._at = found.end()
        elif self._text.startswith("[", self._at):
            self._list(path)
        elif self._text.startswith("{", self._at):
            self._inline_table(path)
        elif bare := _BARE.match(self._text, self._at):
            self._at = bare.end()

    def _list(self, path: Path) -> None:
        self._at += 1
        position = 0
        while self._more("]"):
            self._mark((*path, position))
            self._value((*path, position))
            position += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._more("}"):
            self._pair(path)

    def _more(self, end: str) -> bool:
        """Past blanks and a comma; False behind the closing bracket."""
        self._skip_blank()
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip_blank()
        if self._at >= len(self._text) or self._text.startswith(end, self._at):
            self._at += 1
            return False
        return True
