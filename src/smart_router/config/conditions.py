"""Conditions of routes and access rules: paths that cost next to nothing, and CEL for the rest.

    ids.agent                                  a path: looked up, missing is null
    ids.service && !(metadata.closed)          paths with && || ! ( ): looked up; null, false, 0 and empty do not hold
    metadata.kind == "invoice" && has(ids.ui)  anything else is CEL (https://cel.dev), compiled once

In CEL a missing key is an error where `||`, `&&`, `?:` or `has()` do not settle it: then the condition does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import Any, Final

import cel

from smart_router.errors import ConfigError, Refused

__all__ = ["ACCESS_VARIABLES", "ROUTE_VARIABLES", "Condition", "compile_condition"]

ROUTE_VARIABLES: Final = ("ids", "metadata", "type", "from", "endpoint")
"""Of `when` and `to`: parts of the message, and the (sub-)endpoint it was received on."""

ACCESS_VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "connect": ("subject", "scopes", "claims", "actor", "own", "endpoint", "sub"),
    "publish": ("subject", "scopes", "claims", "actor", "own", "endpoint", "sub", "address", "type"),
    "read": ("subject", "scopes", "claims", "actor", "own", "endpoint", "sub", "address", "type", "from"),
    "presence": ("subject", "scopes", "claims", "actor", "own", "endpoint", "sub", "address"),
}
"""Of an endpoint's `access`. `endpoint` is its name, `sub` the sub-endpoint's or "", `own` the last part of
the actor's id, `address` the mailbox."""

MAX_LENGTH: Final = 4_096
"""Characters of a condition; the parser's stack and the time of an evaluation stay bounded."""

FUNCTIONS: Final = frozenset(
    ["size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes", "type",
     "dyn", "duration", "timestamp"]
)  # fmt: skip
"""What the CEL library offers without extensions; has, all, exists, exists_one, map and filter are macros."""

_PATH_TOKENS: Final = re.compile(r"\s*(&&|\|\||!(?!=)|\(|\)|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*", re.ASCII)
_LITERALS: Final = frozenset({"true", "false", "null", "in"})
_ERROR: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_BOUND: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,", re.ASCII)

Evaluate = Callable[[Mapping[str, Any]], Any]


class Condition:
    """A compiled text. `plain`: it needs no CEL evaluation."""

    __slots__ = ("_evaluate", "plain", "text")

    def __init__(self, text: str, evaluate: Evaluate, *, plain: bool) -> None:
        self.text = text
        self.plain = plain
        self._evaluate = evaluate

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The value; None where a key is missing. Refused `route_error` when these values do not fit the expression."""
        try:
            return self._evaluate(variables)
        except LookupError:
            return None
        except (TypeError, ValueError, ArithmeticError, RuntimeError):
            # The library's text may quote a value of the message; that reaches neither log nor sender.
            raise Refused(
                "route_error", f"`{self.text}` cannot be evaluated: a value has another type than it needs."
            ) from None

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """True when the value is neither null, false, 0 nor empty; what cannot be evaluated does not hold."""
        try:
            return bool(self.evaluate(variables))
        except Refused:
            return False

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


def compile_condition(text: str, variables: tuple[str, ...]) -> Condition:
    """`variables`: the names it may use. ConfigError with column and reason; the column counts from 1."""
    if len(text) > MAX_LENGTH:
        raise ConfigError([f"the condition has {len(text)} characters: at most {MAX_LENGTH}"])
    plain = _compile_plain(text, variables)
    if plain is not None:
        return Condition(text, plain, plain=True)
    return Condition(text, _compile_cel(text, variables), plain=False)


def _compile_cel(text: str, variables: tuple[str, ...]) -> Evaluate:
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise ConfigError([f"`{text}` {_reason(str(error))}"]) from None
    bound = set(_BOUND.findall(text))
    names = tuple(name for name in program.variables() if name not in bound)
    problems = [_unknown(text, "variable", name, variables) for name in names if name not in variables]
    functions = [name for name in program.functions() if name.isidentifier() and not name.startswith("_")]
    problems += [_unknown(text, "function", name, FUNCTIONS) for name in functions if name not in FUNCTIONS]
    if problems:
        raise ConfigError(problems)

    def evaluate(values: Mapping[str, Any]) -> Any:
        return program.execute({name: values.get(name) for name in names})

    return evaluate


def _reason(error: str) -> str:
    """Where and why, from the parser's own text; it only ever quotes the condition."""
    found = _ERROR.search(error)
    if found is None:
        return "is not a CEL expression"
    line, column, reason = found.groups()
    reason = reason.split(" expecting ")[0]
    place = f"column {column}" if line == "1" else f"line {line} of it, column {column}"
    if "<EOF>" in reason:
        reason = "something is missing at its end"
    return f"is not a CEL expression: {place}: {reason}"


def _unknown(text: str, kind: str, name: str, known: tuple[str, ...] | frozenset[str]) -> str:
    found = re.search(rf"(?<![\w.]){re.escape(name)}\b" if kind == "variable" else rf"\b{re.escape(name)}\s*\(", text)
    column = found.start() + 1 if found else 1
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(sorted(known))}"
    return f"`{text}` column {column}: unknown {kind} `{name}`: {hint}"


def _compile_plain(text: str, variables: tuple[str, ...]) -> Evaluate | None:
    """None when the text is more than paths, `&&`, `||`, `!` and parentheses: then it is CEL's."""
    tokens: list[str] = []
    position = 0
    while position < len(text):
        found = _PATH_TOKENS.match(text, position)
        if found is None:
            return None
        tokens.append(found.group(1))
        position = found.end()
    paths = [token for token in tokens if token[0].isalpha() or token[0] == "_"]
    if any(path in _LITERALS or path.split(".")[0] not in variables for path in paths):
        return None
    parser = _PlainParser(tokens)
    try:
        evaluate = parser.alternatives(0)
    except _NotPlain:
        return None
    return evaluate if parser.at_end else None


class _NotPlain(Exception):
    pass


class _PlainParser:
    """`||` of `&&` of `!` of paths and parentheses; at most 32 deep, deeper is CEL's to refuse."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._tokens)

    def _take(self, token: str) -> bool:
        if self.at_end or self._tokens[self._at] != token:
            return False
        self._at += 1
        return True

    def alternatives(self, depth: int) -> Evaluate:
        parts = [self._conjunction(depth)]
        while self._take("||"):
            parts.append(self._conjunction(depth))
        return reduce(_either, parts)

    def _conjunction(self, depth: int) -> Evaluate:
        parts = [self._unary(depth)]
        while self._take("&&"):
            parts.append(self._unary(depth))
        return reduce(_both, parts)

    def _unary(self, depth: int) -> Evaluate:
        if depth > 32 or self.at_end:
            raise _NotPlain
        if self._take("!"):
            part = self._unary(depth + 1)
            return lambda values: not part(values)
        if self._take("("):
            inner = self.alternatives(depth + 1)
            if not self._take(")"):
                raise _NotPlain
            return inner
        token = self._tokens[self._at]
        if token in {"&&", "||", ")"}:
            raise _NotPlain
        self._at += 1
        return _path(tuple(token.split(".")))


def _either(first: Evaluate, second: Evaluate) -> Evaluate:
    return lambda values: bool(first(values) or second(values))


def _both(first: Evaluate, second: Evaluate) -> Evaluate:
    return lambda values: bool(first(values) and second(values))


def _path(keys: tuple[str, ...]) -> Evaluate:
    if len(keys) == 1:
        name = keys[0]
        return lambda values: values.get(name)
    if len(keys) == 2:
        first, second = keys

        def two(values: Mapping[str, Any]) -> Any:
            found = values.get(first)
            return found.get(second) if isinstance(found, Mapping) else None

        return two

    def many(values: Mapping[str, Any]) -> Any:
        found: Any = values
        for key in keys:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found

    return many
