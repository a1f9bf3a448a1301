"""`smart-router dead-letters`: messages that ended badly: list, show, replay, purge."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from smart_router.cli.exits import FAILED, USAGE, end
from smart_router.cli.operator import Router, milliseconds, show, when
from smart_router.cli.options import DEFAULT_URL, Timeout, Token, Url

__all__ = ["dead_letters"]

Address = Annotated[str | None, typer.Option(help="Whose mailbox it was for.")]
Sender = Annotated[str | None, typer.Option(help="The actor that sent it.")]
State = Annotated[str | None, typer.Option(help="expired, dropped, superseded, refused or failed.")]
Reason = Annotated[str | None, typer.Option(help="ttl, overflow, attempts, purged, route_error, …")]
Type = Annotated[str | None, typer.Option(help="The message's type.")]
Since = Annotated[str | None, typer.Option(help="Ended at or after: 2026-01-31T12:00 (UTC) or ms since 1970.")]
Until = Annotated[str | None, typer.Option(help="Ended at or before.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Message ids; each stands for all its dead letters.")]
All = Annotated[bool, typer.Option("--all", help="All there are.")]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON each.")]


def dead_letters() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Look at messages that ended badly; put them again, or forget them.")
    app.command("list")(_list)
    app.command("show")(_show)
    app.command("replay")(_replay)
    app.command("purge")(_purge)
    return app


def _list(  # noqa: PLR0913  # one parameter per flag is how Typer has it
    address: Address = None,
    sender: Sender = None,
    state: State = None,
    reason: Reason = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List dead letters, oldest end first, without their bodies. Needs the scope monitor or admin."""
    where = _where(address, sender, state, reason, type, since, until)
    rows = Router(url, token, timeout).pages("/dead-letters", where, "dead_letters", limit)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    columns = ("ended", "state", "reason", "type", "from", "for", "attempts", "id", "detail")
    show(
        columns,
        (
            (
                when(row["ended_at"]),
                row["state"],
                row["reason"],
                row["type"][:64],
                row["sender"],
                row["address"],
                row["attempts"],
                row["id"],
                row["detail"],
            )
            for row in rows
        ),
    )


def _show(
    id: Annotated[str, typer.Argument(help="The message's id.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show a message's dead letters whole, one line of JSON per recipient. Needs the scope admin."""
    answer = Router(url, token, timeout).call("GET", "/dead-letters/" + quote(id, safe=""))
    for letter in answer["dead_letters"]:
        typer.echo(json.dumps(letter))
    _tell_missing(answer)


def _replay(  # noqa: PLR0913
    ids: Ids = None,
    address: Address = None,
    sender: Sender = None,
    state: State = None,
    reason: Reason = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    all: All = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most, the oldest first.")] = 100,
    to: Annotated[str | None, typer.Option(help="Another address for all of them.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
) -> None:
    """Put dead letters into their mailboxes again. Status 1 if any is refused. Needs the scope admin."""
    choice = _choice(ids, _where(address, sender, state, reason, type, since, until), all)
    body = {**choice, "limit": limit, "to": to}
    answer = Router(url, token, timeout).call("POST", "/dead-letters/replay", body=body)
    typer.echo(f"replayed: {answer['replayed']}")
    for one in answer["refused"]:
        typer.echo(f"refused: {one['id']} for {one['address']}: {one['message']}", err=True)
    _tell_missing(answer)
    if answer["failed"]:
        raise typer.Exit(FAILED)


def _purge(  # noqa: PLR0913
    ids: Ids = None,
    address: Address = None,
    sender: Sender = None,
    state: State = None,
    reason: Reason = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    all: All = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
) -> None:
    """Forget dead letters for good. Needs the scope admin."""
    choice = _choice(ids, _where(address, sender, state, reason, type, since, until), all)
    answer = Router(url, token, timeout).call("POST", "/dead-letters/purge", body=choice)
    typer.echo(f"purged: {answer['purged']}")
    _tell_missing(answer)


def _where(*values: str | None) -> dict[str, Any]:
    names = ("address", "sender", "state", "reason", "type")
    where: dict[str, Any] = {name: value for name, value in zip(names, values, strict=False) if value is not None}
    for name, text in (("since", values[5]), ("until", values[6])):
        if (ms := milliseconds(text, f"--{name}")) is not None:
            where[name] = ms
    return where


def _choice(ids: list[str] | None, where: dict[str, Any], all: bool) -> dict[str, Any]:
    if bool(ids) + bool(where) + all != 1:
        end("say which: ids, or filters such as --reason ttl, or --all", USAGE)
    return {"keys": [{"id": id_} for id_ in ids]} if ids else {"where": where, "all": all}


def _tell_missing(answer: dict[str, Any]) -> None:
    if answer["missing_nodes"]:
        typer.echo(f"smart-router: did not answer: {', '.join(answer['missing_nodes'])}", err=True)
