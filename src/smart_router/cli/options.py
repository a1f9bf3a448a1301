"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated, Final

import typer

__all__ = ["DEFAULT_URL", "Actor", "Timeout", "Token", "Url"]

DEFAULT_URL: Final = "http://127.0.0.1:8080"

Url = Annotated[str, typer.Option(envvar="SMART_ROUTER_URL", help="Where the router listens.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="SMART_ROUTER_TOKEN", help="JWT or static token; better in the variable than on the command line."
    ),
]
Actor = Annotated[str, typer.Option("--actor", envvar="SMART_ROUTER_ACTOR", help="Who you are, such as ui/456/alice.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the router.")]
