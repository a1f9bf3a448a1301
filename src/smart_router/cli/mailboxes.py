"""`smart-router mailboxes`: what waits where: list, show, purge, delete, move."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from smart_router.cli.operator import Router, show, when
from smart_router.cli.options import DEFAULT_URL, Timeout, Token, Url

__all__ = ["mailboxes"]

Address = Annotated[str, typer.Argument(help="Such as ui/456/alice.")]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON each.")]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


def mailboxes() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Look into mailboxes; empty, remove them, move a message.")
    app.command("list")(_list)
    app.command("show")(_show)
    app.command("purge")(_purge)
    app.command("delete")(_delete)
    app.command("move")(_move)
    return app


def _list(
    prefix: Annotated[str, typer.Argument(help="Only addresses that begin with it.")] = "",
    limit: Limit = 1000,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List mailboxes and how much is in each. Needs the scope monitor or admin."""
    rows = Router(url, token, timeout).pages("/mailboxes", {"prefix": prefix}, "mailboxes", limit)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    columns = ("address", "waiting", "in_flight", "bytes", "subscriptions", "durable")
    show([column.replace("_", " ") for column in columns], ([row[column] for column in columns] for row in rows))


def _show(  # noqa: PLR0913  # one parameter per flag is how Typer has it
    address: Address,
    limit: Limit = 100,
    bodies: Annotated[bool, typer.Option(help="With --json: the messages themselves. Needs the scope admin.")] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show what waits in a mailbox, oldest first, without taking it. Needs the scope monitor or admin."""
    query = {"address": address, "bodies": "true" if bodies else None}
    page = 100 if bodies else 1000
    rows = Router(url, token, timeout).pages("/mailbox/messages", query, "messages", limit, page)
    if as_json or bodies:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    show(
        ("accepted", "type", "from", "priority", "bytes", "attempts", "id"),
        (
            (when(row["at"]), row["type"][:64], row["from"], row["priority"], row["size"], row["attempts"], row["id"])
            for row in rows
        ),
    )


def _purge(address: Address, url: Url = DEFAULT_URL, token: Token = None, timeout: Timeout = 60.0) -> None:
    """End all that waits in a mailbox; each message is a dead letter then. Needs the scope admin."""
    answer = Router(url, token, timeout).call("DELETE", "/mailbox/messages", {"address": address})
    typer.echo(f"purged: {answer['purged']}")


def _delete(address: Address, url: Url = DEFAULT_URL, token: Token = None, timeout: Timeout = 60.0) -> None:
    """Purge a mailbox that nobody reads, and remove it. Needs the scope admin."""
    answer = Router(url, token, timeout).call("DELETE", "/mailbox", {"address": address})
    typer.echo(f"deleted: {answer['address']}")


def _move(
    address: Address,
    id: Annotated[str, typer.Argument(help="Of the message that waits there.")],
    to: Annotated[str | None, typer.Option(help="Another address; else to the end of its own mailbox.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Move one waiting message to the end of a mailbox. Needs the scope admin."""
    body = {"address": address, "id": id, "to": to}
    answer = Router(url, token, timeout).call("POST", "/mailbox/requeue", body=body)
    typer.echo(f"moved to: {answer['address']}")
