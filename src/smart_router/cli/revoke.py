"""`smart-router revoke`: ends a subject's tokens, or one token, on all nodes."""

from __future__ import annotations

from typing import Annotated

import typer

from smart_router.cli.exits import USAGE, end
from smart_router.cli.options import DEFAULT_URL, Timeout, Token, Url
from smart_router.cli.requests import NoAnswer, ask

__all__ = ["revoke"]


def revoke(
    subject: Annotated[str | None, typer.Option(help="Every token of this subject that was issued until now.")] = None,
    jti: Annotated[str | None, typer.Option(help="The one token with this id.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Revoke tokens: live sessions that use them are cut within a second, mailboxes stay. Needs the admin scope."""
    if (subject is None) == (jti is None):
        end("say either --subject or --jti", USAGE)
    body = {"subject": subject} if subject is not None else {"jti": jti}
    try:
        answer = ask("POST", url, "/revocations", token=token, timeout=timeout, body=body)
    except NoAnswer as error:
        end(str(error))
    except ValueError as error:
        end(str(error), USAGE)
    if answer.status in {401, 403}:
        end(f"not allowed: {answer.error}; --token or SMART_ROUTER_TOKEN must have the scope admin")
    if not 200 <= answer.status < 300:
        end(f"the router refused: {answer.error} ({answer.status})")
    typer.echo(f"revoked: {'subject ' + subject if subject is not None else f'token {jti}'}")
