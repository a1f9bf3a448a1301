"""What the operators' commands have in common: one call to a router, its answer or the end of the program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table
from rich.text import Text

from smart_router.cli.exits import USAGE, end
from smart_router.cli.requests import NoAnswer, ask

__all__ = ["Router", "milliseconds", "show", "when"]


class Router(NamedTuple):
    """Where it is, and how to ask it."""

    url: str
    token: str | None
    timeout: float

    def call(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: object = None) -> Any:
        """The decoded answer; the program ends with a text when there is none, or an error."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        whole = path + ("?" + urlencode(given) if given else "")
        try:
            answer = ask(method, self.url, whole, token=self.token, timeout=self.timeout, body=body)
        except NoAnswer as error:
            end(str(error))
        except ValueError as error:
            end(str(error), USAGE)
        if answer.status in {401, 403}:
            end(f"not allowed: {answer.error} (--token or SMART_ROUTER_TOKEN)")
        if not 200 <= answer.status < 300 or not isinstance(answer.value, dict):
            end(f"the router refused: {answer.error} ({answer.status})")
        return answer.value

    def pages(
        self, path: str, query: Mapping[str, Any], key: str, limit: int, page: int = 1000
    ) -> Iterator[dict[str, Any]]:
        """Up to `limit` rows of a list that comes in pages of at most `page`."""
        cursor: str | None = None
        while limit > 0:
            answer = self.call("GET", path, {**query, "limit": min(limit, page), "cursor": cursor})
            yield from answer[key]
            limit -= len(answer[key])
            cursor = answer["cursor"]
            if cursor is None:
                return


def show(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table on standard output. What others wrote is no markup and steers no terminal."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*[Text(_plain(cell)) for cell in row])
    Console().print(table)


def _plain(cell: object) -> str:
    text = str(cell)
    return text if text.isprintable() else repr(text)[1:-1]


def when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(text: str | None, name: str) -> int | None:
    """Of a time as one types it: 2026-01-31, 2026-01-31T12:00 (UTC, if it says no zone), or ms since 1970."""
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        end(f"{name}: `{text}` is no time: write it as 2026-01-31 or 2026-01-31T12:00", USAGE)
    return int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() * 1000)
