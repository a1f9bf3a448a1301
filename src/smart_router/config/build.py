"""From tables to Structs, with every mistake named at once (msgspec's own conversion ends at the first)."""

from __future__ import annotations

import typing
from typing import Any, Final, TypeVar

import msgspec

from smart_router.config.environment import nested
from smart_router.config.lines import Path
from smart_router.config.problems import Problems, instead

__all__ = ["build"]

S = TypeVar("S", bound=msgspec.Struct)

_INVALID: Final = object()

_LATER: Final = "comes with a later version; take it out"
LATER_KEYS: Final[dict[str, frozenset[str]]] = {
    "Settings": frozenset({"bus", "ingress", "nodes", "redis", "tracing"}),
    "EndpointSettings": frozenset({"history", "presence"}),
}
"""Known words of the design whose policy is not built yet: an error of its own, never ignored."""

LATER_VALUES: Final[dict[tuple[str, str], str]] = {
    ("deliver", "all"): "`all` comes with a later version: use `primary` or `any`",
    ("kind", "happn"): "`happn` comes with a later version: use `socketio` or `plain`",
}


def build(struct: type[S], data: object, path: Path, problems: Problems) -> S | None:
    """The Struct with what could be read; None when a key without a default is missing or wrong."""
    if not isinstance(data, dict):
        problems.value(path, "expected a table")
        return None
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    if struct.__name__ == "EndpointSettings" and path:
        del fields["name"]
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in fields:
            later = _LATER if key in LATER_KEYS.get(struct.__name__, ()) else None
            problems.unknown((*path, key), fields, later)
            continue
        built = _value(fields[key].type, value, (*path, key), problems)
        if built is not _INVALID:
            values[key] = built
    for key, field in fields.items():
        if field.required and key not in values:
            if key not in data:
                problems.missing((*path, key))
            return None
    if struct.__name__ == "EndpointSettings" and path:
        values["name"] = str(path[-1])
    return _made(struct, values, path, problems)


def _made(struct: type[S], values: dict[str, Any], path: Path, problems: Problems) -> S:
    made = struct(**values)
    problems.places[id(made)] = path
    for field in msgspec.structs.fields(struct):
        child = getattr(made, field.name)
        if isinstance(child, msgspec.Struct):
            problems.places.setdefault(id(child), (*path, field.name))
    return made


def _value(kind: Any, value: object, path: Path, problems: Problems) -> Any:
    inner = nested(kind)
    if inner is None:
        return _plain(kind, value, path, problems)
    shape, struct = inner
    if shape == "table":
        return _or_invalid(build(struct, value, path, problems))
    if shape == "tables" and isinstance(value, dict):
        built = {key: build(struct, item, (*path, key), problems) for key, item in value.items()}
        return {key: item for key, item in built.items() if item is not None}
    if shape == "list" and isinstance(value, list):
        items = [build(struct, item, (*path, index), problems) for index, item in enumerate(value)]
        if not value and _needs_one(kind):
            problems.value(path, "expected at least one")
        return [item for item in items if item is not None]
    problems.value(path, "expected tables" if shape == "tables" else "expected a list of tables")
    return _INVALID


def _or_invalid(built: object) -> object:
    return _INVALID if built is None else built


def _needs_one(kind: Any) -> bool:
    return any(getattr(meta, "min_length", None) for meta in getattr(kind, "__metadata__", ()))


def _plain(kind: Any, value: object, path: Path, problems: Problems) -> Any:
    from_text = path in problems.sources and isinstance(value, str)
    if from_text and typing.get_origin(kind) is list:
        value = [item.strip() for item in str(value).split(",") if item.strip()]
    if isinstance(value, str) and (str(path[-1]), value) in LATER_VALUES:
        problems.value(path, LATER_VALUES[str(path[-1]), value])
        return _INVALID
    try:
        return msgspec.convert(value, kind, strict=not from_text)
    except msgspec.ValidationError as error:
        problems.value(path, _reason(kind, value, str(error)))
        return _INVALID


def _reason(kind: Any, value: object, error: str) -> str:
    choices = _choices(kind)
    given = value if isinstance(value, list) else [value]
    wrong = [item for item in given if isinstance(item, str) and item not in choices]
    if choices and wrong:
        return f"`{wrong[0][:64]}` is not a choice: {instead(wrong[0], choices)}"
    reason = error.partition(" - at ")[0]
    return reason[0].lower() + reason[1:]


def _choices(kind: Any) -> list[str]:
    if typing.get_origin(kind) is typing.Literal:
        return [choice for choice in typing.get_args(kind) if isinstance(choice, str)]
    for argument in typing.get_args(kind):
        if found := _choices(argument):
            return found
    return []
