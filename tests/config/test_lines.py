"""Lines of keys, in every shape that TOML gives them."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smart_router.config.lines import Path, find_lines

TEXT = '''# [not.a.table]
top = "a # no comment" # one
"quoted key" = 'x = 1'
a.b.c = 1

[server] # header
text = """
port = 1
""" # the three lines above are a string
port = 2
[[server.gateways]]
kind = "x"
[[server.gateways]]
kind = [
  "]",   # a bracket
  {a = 1, b = [2, {c = 3}]},
]
last = 1979-05-27T07:32:00Z
[ endpoints . "u i" ]
x = {}
'''


def test_each_key_has_its_line() -> None:
    assert find_lines(TEXT) == {
        ("top",): 2,
        ("quoted key",): 3,
        ("a",): 4,
        ("a", "b"): 4,
        ("a", "b", "c"): 4,
        ("server",): 6,
        ("server", "text"): 7,
        ("server", "port"): 10,
        ("server", "gateways", 0): 11,
        ("server", "gateways", 0, "kind"): 12,
        ("server", "gateways", 1): 13,
        ("server", "gateways", 1, "kind"): 14,
        ("server", "gateways", 1, "kind", 0): 15,
        ("server", "gateways", 1, "kind", 1): 16,
        ("server", "gateways", 1, "kind", 1, "a"): 16,
        ("server", "gateways", 1, "kind", 1, "b"): 16,
        ("server", "gateways", 1, "kind", 1, "b", 0): 16,
        ("server", "gateways", 1, "kind", 1, "b", 1): 16,
        ("server", "gateways", 1, "kind", 1, "b", 1, "c"): 16,
        ("server", "gateways", 1, "last"): 18,
        ("endpoints",): 19,
        ("endpoints", "u i"): 19,
        ("endpoints", "u i", "x"): 20,
    }


def paths(value: Any, path: Path = ()) -> set[Path]:
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= paths(item, (*path, key))
    return found


@given(st.text(alphabet="ab.=[]{}\"'#,1 \n\\", max_size=40))
def test_whatever_is_toml_has_a_line_for_every_key(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = find_lines(text)
    missing = {path for path in paths(data) if path not in lines and not isinstance(path[-1], int)}
    arrays = {path for path in missing if (*path, 0) in lines}
    assert missing == arrays
