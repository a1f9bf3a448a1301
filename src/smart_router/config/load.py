"""Settings from their three sources; the later wins.

    file (TOML)  <  environment (SMART_ROUTER_…)  <  flags

All mistakes of all sources are told at once: `ConfigError.problems`, in the file's order.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as File
from typing import Any, Final

import msgspec

from smart_router.config.build import build
from smart_router.config.environment import COMMAND_NAMES, FLAGS, PREFIX, TEST_PREFIX, names, overlay
from smart_router.config.lines import Path, find_lines
from smart_router.config.problems import Problems, instead
from smart_router.config.rules import check_endpoint, check_routes, is_module_attribute
from smart_router.config.rules_server import check_auth, check_server, check_top
from smart_router.config.schema import EndpointSettings, Settings
from smart_router.errors import ConfigError

__all__ = ["AppEndpoints", "endpoint_settings", "load_settings"]

_NO_PATHS: Final = {"embedded://": ("memory",), "sqlite:///": (":memory:",)}

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of a configuration file."""

AppEndpoints = Callable[[str], Iterable[str]]

_PATTERN: Final = re.compile(r"([^/{}]+)(/\{[A-Za-z_]\w*\})?\Z")

_FILE_KEYS: Final[dict[Path, str]] = {
    # key: what stands before the path in its value
    ("data",): "",
    ("store",): "sqlite:///",
    ("broker", "url"): "embedded://",
    ("server", "static"): "",
    ("server", "tls", "certificate"): "",
    ("server", "tls", "key"): "",
    ("auth", "jwks"): "",
}


def load_settings(
    file: str | File | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    app_endpoints: AppEndpoints | None = None,
) -> Settings:
    """`environ`: only names with our prefix are looked at. `flags`: by their name (`FLAGS`), None for one not given.

    `app_endpoints`: the names that the application `module:attribute` declares, or ConfigError; without it routes may
    name any endpoint as soon as there is an application. Relative paths in the file start at the file's folder, others
    at the current one. Raises ConfigError.
    """
    data, lines = _read(File(file)) if file is not None else ({}, {})
    sources: dict[Path, str] = {}
    problems = Problems(lines, sources)
    values = _from_environment(environ or {}, sources, problems)
    for name, value in (flags or {}).items():
        if value is not None:
            values[FLAGS[name]] = value
            sources[FLAGS[name]] = name
    overlay(data, values)
    settings = build(Settings, data, (), problems)
    if settings is not None:
        _check(settings, problems, app_endpoints)
    if settings is None or problems.found:
        raise ConfigError(problems.texts())
    return settings


def endpoint_settings(pattern: str, /, **policies: Any) -> EndpointSettings:
    """An endpoint declared in Python: `ui/{id}` has sub-endpoints, `ui` has none; policies as in `[endpoints.NAME]`.

    `retry` and `access` may be given as Structs. Raises ConfigError.
    """
    found = _PATTERN.match(pattern)
    if found is None:
        raise ConfigError([f"`{pattern[:64]}` is no endpoint: write `ui`, or `ui/{{id}}` when it has sub-endpoints"])
    name, placeholder = found.groups()
    if placeholder:
        policies.setdefault("sub_endpoints", [])
    problems = Problems({}, {})
    data = {
        key: msgspec.structs.asdict(item) if isinstance(item, msgspec.Struct) else item
        for key, item in policies.items()
    }
    endpoint = build(EndpointSettings, data, ("endpoints", name), problems)
    if endpoint is not None:
        check_endpoint(endpoint, problems)
    if endpoint is None or problems.found:
        raise ConfigError(problems.texts())
    return endpoint


def _read(file: File) -> tuple[dict[str, Any], dict[Path, int]]:
    try:
        if file.stat().st_size > MAX_FILE:
            raise ConfigError([f"{file} is larger than {MAX_FILE} bytes: no configuration file"])
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError([f"no such file: {file}"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{file} is a folder: name the TOML file in it"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file} is not UTF-8 text (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{file} cannot be read: {error.strerror}"]) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"not TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError(["not a configuration: brackets are nested too deep"]) from None
    _absolute(data, file.resolve().parent)
    return data, find_lines(text.replace("\r\n", "\n"))


def _absolute(data: dict[str, Any], folder: File) -> None:
    for path, prefix in _FILE_KEYS.items():
        table: Any = data
        for key in path[:-1]:
            table = table.get(key) if isinstance(table, dict) else None
        value = table.get(path[-1]) if isinstance(table, dict) else None
        if not isinstance(value, str) or not value.startswith(prefix):
            continue
        rest = value.removeprefix(prefix)
        if rest and "://" not in rest and rest not in _NO_PATHS.get(prefix, ()):
            table[path[-1]] = prefix + str(folder / rest)


def _from_environment(environ: Mapping[str, str], sources: dict[Path, str], problems: Problems) -> dict[Path, object]:
    known = names()
    values: dict[Path, object] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX) or name in COMMAND_NAMES:
            continue
        if name not in known:
            problems.plain(f"unknown variable {name}: {instead(name, known) if _near(name, known) else _HINT}")
            continue
        values[known[name]] = value
        sources[known[name]] = name
    return values


_HINT: Final = "it is no setting (docs/configuration.md); unset it"


def _near(name: str, known: Mapping[str, Path]) -> bool:
    return instead(name, known).startswith("did")


def _check(settings: Settings, problems: Problems, app_endpoints: AppEndpoints | None) -> None:
    check_top(settings, problems)
    for endpoint in settings.endpoints.values():
        check_endpoint(endpoint, problems)
    check_routes(settings, _declared(settings, problems, app_endpoints), problems)
    check_server(settings, problems)
    check_auth(settings.auth, problems)


def _declared(settings: Settings, problems: Problems, app_endpoints: AppEndpoints | None) -> set[str] | None:
    """The endpoints of file and application; None when the latter's are not known."""
    if settings.app is None:
        return set(settings.endpoints)
    if app_endpoints is None or not is_module_attribute(settings.app):
        return None
    try:
        return {*settings.endpoints, *app_endpoints(settings.app)}
    except ConfigError as error:
        for text in error.problems:
            problems.of(settings, "app", text)
        return None
