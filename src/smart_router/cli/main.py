"""The program `smart-router`: its commands, and how it ends.

Exit status: 0 done; 1 tried and failed; 2 wrong arguments or settings; `check` has Nagios' own; 128 + n: told to stop
at once by signal n.
"""

from __future__ import annotations

import typer

from smart_router.cli.bench import bench
from smart_router.cli.check import CheckCommand, check
from smart_router.cli.check_config import check_config
from smart_router.cli.deadletters import dead_letters
from smart_router.cli.demo import demo
from smart_router.cli.listen import listen
from smart_router.cli.mailboxes import mailboxes
from smart_router.cli.nodes import nodes
from smart_router.cli.revoke import revoke
from smart_router.cli.send import send
from smart_router.cli.serve import serve
from smart_router.cli.version import version

__all__ = ["main", "program"]


def program() -> typer.Typer:
    """All commands, most used first."""
    app = typer.Typer(
        name="smart-router",
        help="Routes messages between actors that come and go, and loses none.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(serve)
    app.command()(demo)
    app.command("check-config")(check_config)
    app.command()(send)
    app.command()(listen)
    app.command(cls=CheckCommand)(check)
    app.command()(nodes)
    app.command()(revoke)
    app.add_typer(mailboxes(), name="mailboxes")
    app.add_typer(dead_letters(), name="dead-letters")
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
        bench
    )
    app.command()(version)
    return app


def main() -> None:
    """The console script's entry."""
    program()()
