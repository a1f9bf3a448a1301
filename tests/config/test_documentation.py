"""docs/configuration.md names every setting with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest

from smart_router.config.environment import FLAGS, names, nested
from smart_router.config.load import load_settings
from smart_router.config.schema import Settings
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text()


def keys(struct: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        inner = nested(field.type)
        if inner is None:
            yield field.name
        else:
            yield from keys(inner[1])


@pytest.mark.parametrize("key", sorted(set(keys(Settings)) - {"name"}))
def test_every_key_is_documented(key: str) -> None:
    assert re.search(rf"`(?:\w+\.)?{key}(?: = [^`]+)?`", PAGE)


def test_every_variable_named_there_is_one() -> None:
    named = set(re.findall(r"SMART_ROUTER_[A-Z_]+", PAGE)) - {"SMART_ROUTER_CONFIG", "SMART_ROUTER_"}
    assert named <= set(names())


def test_every_flag_leads_to_a_setting() -> None:
    assert set(FLAGS.values()) <= set(names().values())


def test_the_examples_there_are_valid(tmp_path_factory: pytest.TempPathFactory) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path_factory.mktemp("toml") / "smart-router.toml"
        file.write_text(f"[endpoints.ui]\n{block}" if "endpoints" not in block else block)
        load_settings(file)
