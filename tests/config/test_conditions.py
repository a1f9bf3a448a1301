"""Conditions: what is looked up, what is CEL, and what a mistake says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_router.config.conditions import ROUTE_VARIABLES, Condition, compile_condition
from smart_router.errors import ConfigError, Refused

MESSAGE: dict[str, Any] = {
    "ids": {"agent": "agent/456/bot", "ui": ["ui/456/a", "ui/456/b"], "none": None},
    "metadata": {"service": True, "closed": False, "amount": 7, "deep": {"er": {"kind": "x"}}},
    "type": "talk",
    "from": "ui/456/a",
    "endpoint": "ui/456",
}


def condition(text: str) -> Condition:
    return compile_condition(text, ROUTE_VARIABLES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ids.agent", "agent/456/bot"),
        ("ids.ui", ["ui/456/a", "ui/456/b"]),
        ("ids.absent", None),
        ("ids.agent.name", None),
        ("metadata.deep.er.kind", "x"),
        ("type", "talk"),
        ("from", "ui/456/a"),
        ("  ids.agent  ", "agent/456/bot"),
    ],
)
def test_a_plain_path_is_looked_up(text: str, value: object) -> None:
    assert condition(text).plain
    assert condition(text).evaluate(MESSAGE) == value


@pytest.mark.parametrize(
    ("text", "plain", "holds"),
    [
        ("ids.agent && metadata.service", True, True),
        ("ids.absent && metadata.service", True, False),
        ("ids.absent || metadata.service", True, True),
        ("!ids.absent", True, True),
        ("!!ids.absent", True, False),
        ("!(ids.agent || metadata.closed)", True, False),
        ("ids.absent || metadata.closed || type && metadata.amount", True, True),
        ("ids.none", True, False),
        ("true", False, True),
        ("false", False, False),
        ("metadata.service == true", False, True),
        ("metadata.amount != 7", False, False),
        ('ids.agent.startsWith("agent/456/")', False, True),
        ('metadata["service"] && !has(ids.absent)', False, True),
        ("ids.ui.exists(address, address == from)", False, True),
        ("ids.absent == 'x'", False, False),
        ("ids.absent == 'x' || true", False, True),
        ("metadata.service > 3", False, False),
        ("metadata.amount / 0 == 1", False, False),
        ("type in ['talk', 'log']", False, True),
    ],
)
def test_what_holds(text: str, plain: bool, holds: bool) -> None:
    assert condition(text).plain is plain
    assert condition(text).holds(MESSAGE) is holds


def test_a_value_of_the_wrong_type_is_refused_without_showing_it() -> None:
    with pytest.raises(Refused) as caught:
        condition("int(from) > 3").evaluate({**MESSAGE, "from": "a secret"})
    assert caught.value.code == "route_error"
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ids.agent ==", "`ids.agent ==` is not a CEL expression: column 13: something is missing at its end"),
        ("ids..agent", "`ids..agent` is not a CEL expression: column 5: no viable alternative at input '..'"),
        ("1 +\n * 2", "`1 +\n * 2` is not a CEL expression: line 2 of it, column 2: extraneous input '*'"),
        ("(ids.agent", "`(ids.agent` is not a CEL expression: column 11: something is missing at its end"),
        ("", "`` is not a CEL expression: column 1: something is missing at its end"),
        ("idz.agent", "`idz.agent` column 1: unknown variable `idz`: did you mean `ids`?"),
        ("type == 'a' && metdata.x == 1", "`type == 'a' && metdata.x == 1` column 16: unknown variable `metdata`: "
         "did you mean `metadata`?"),
        ("payload.text", "`payload.text` column 1: unknown variable `payload`: "
         "there are: endpoint, from, ids, metadata, type"),
        ("ids.agent.startWith('a')", "`ids.agent.startWith('a')` column 11: unknown function `startWith`: "
         "did you mean `startsWith`?"),
        ("x" * 5000, "the condition has 5000 characters: at most 4096"),
    ],
)  # fmt: skip
def test_a_mistake_says_where_and_why(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        condition(text)
    assert caught.value.problems == [problem]


def test_deep_nesting_neither_crashes_nor_compiles() -> None:
    with pytest.raises(ConfigError):
        condition("(" * 2000 + "ids.agent" + ")" * 2000)


@given(st.text(alphabet="ids.agent&|!() \"'=[]{}?:,0x\\\n\u0661", max_size=40))
def test_any_text_compiles_or_is_a_config_error(text: str) -> None:
    try:
        compiled = condition(text)
    except ConfigError:
        return
    assert compiled.holds(MESSAGE) in {True, False}


@given(st.lists(st.sampled_from(["ids.agent", "ids.absent", "metadata.service", "!metadata.closed"]), min_size=1))
def test_plain_and_cel_agree_on_booleans(paths: list[str]) -> None:
    text = " && ".join(paths)
    expected = "ids.absent" not in paths
    assert condition(text).holds(MESSAGE) is expected


PATHS = {"ids.agent": True, "ids.absent": False, "metadata.closed": False, "type": True, "metadata.deep.er.kind": True}
logic = st.recursive(
    st.sampled_from(sorted(PATHS)),
    lambda inner: (
        inner.map(lambda part: f"!{part}")
        | inner.map(lambda part: f"({part})")
        | st.tuples(inner, st.sampled_from([" && ", "||", " ||", "&&"]), inner).map("".join)
    ),
    max_leaves=20,
)


@given(logic)
def test_plain_conditions_are_ordinary_logic(text: str) -> None:
    python = re.sub(r"[a-z.]+", lambda path: str(PATHS[path.group()]), text)
    for sign, word in (("!", " not "), ("&&", " and "), ("||", " or ")):
        python = python.replace(sign, word)
    compiled = condition(text)
    assert compiled.plain
    assert compiled.holds(MESSAGE) is eval(python)
