"""Whatever stands in the file and the environment: settings, or a ConfigError that shows no secret."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smart_router.config.environment import names
from smart_router.config.load import load_settings
from smart_router.config.schema import Settings
from smart_router.errors import ConfigError
from tests.config.test_documentation import keys

SECRET = "Zq9-never-shown"
TABLES = ["server", "endpoints", "routes", "auth", "log", "health", "broker", "gateways", "tokens", "tls", "limits"]
TABLES += ["retry", "access", "publish"]

key = st.sampled_from([*TABLES, *sorted(set(keys(Settings))), "odd key", "ui"])
text = st.sampled_from(
    [
        SECRET,
        "",
        "*",
        "ids.agent",
        "ids..",
        "a:b",
        "embedded://memory",
        "amqp://x",
        "/ws",
        "socketio",
        "ui",
        "10.0.0.0/99",
    ]
)
value = st.recursive(
    text | st.integers(-5, 2**65) | st.floats() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(key, inner, max_size=4),
    max_leaves=12,
)


def toml(value: Any) -> str:
    """As an inline value; JSON's texts are TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return json.dumps(value)


@settings(max_examples=300)
@given(
    st.dictionaries(key, value, max_size=6),
    st.dictionaries(st.sampled_from([*sorted(names()), "SMART_ROUTER_X"]), text, max_size=3),
)
def test_any_file_and_environment(data: dict[str, Any], environ: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "smart-router.toml"
        file.write_text("\n".join(f"{json.dumps(name)} = {toml(item)}" for name, item in data.items()))
        problems = problems_of(file, environ)
    told = [problem for problem in problems if "secret`" in problem or "token`" in problem]
    assert not any(SECRET in problem for problem in told)


def problems_of(file: Path, environ: dict[str, str]) -> list[str]:
    try:
        load_settings(file, environ)
    except ConfigError as error:
        return error.problems
    return []
