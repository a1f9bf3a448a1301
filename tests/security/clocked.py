"""The server with a wall clock that a test sets: the program as it is, with another `time.time` under it.

Run as `python -m tests.security.clocked FILE ARGUMENTS…`: FILE holds `+` and the milliseconds that the wall clock is
ahead of the machine's, or `=` and the time at which it stands still; it is read at each look at the clock. The
monotonic clock stays as it is: that nothing else moves with the wall clock is what the tests want to see.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.processes import ServerProcess

__all__ = ["ahead", "serve_clocked", "set_clock", "still"]


def ahead(seconds: float) -> str:
    """A wall clock that goes, so many seconds ahead of the machine's."""
    return f"+{int(seconds * 1000)}"


def still(wall_ms: int) -> str:
    """A wall clock that stands still."""
    return f"={wall_ms}"


def serve_clocked(arguments: Sequence[str], folder: Path, clock: str) -> ServerProcess:
    """`smart-router serve` on 127.0.0.1 and any free port, with a short drain."""
    folder.mkdir(parents=True, exist_ok=True)
    set_clock(folder, clock)
    program = [sys.executable, "-m", "tests.security.clocked", str(folder / "clock")]
    command = [*program, "serve", "--port", "0", "--drain", "0.3", *arguments]
    return ServerProcess(command, folder, "clocked", {})


def set_clock(folder: Path, clock: str) -> None:
    """How the server's wall clock goes from now on."""
    new = folder / "clock.new"
    new.write_text(clock, "ascii")
    new.replace(folder / "clock")


def main() -> None:
    file, *arguments = sys.argv[1:]
    real = time.time_ns  # noqa: TID251  (what is replaced)

    def time_ns() -> int:
        clock = Path(file).read_text("ascii")
        return int(clock[1:]) * 1_000_000 + (real() if clock.startswith("+") else 0)

    time.time_ns = time_ns  # noqa: TID251
    time.time = lambda: time_ns() / 1e9  # noqa: TID251
    sys.argv = ["smart-router", *arguments]
    from smart_router.cli.main import main as program

    program()


if __name__ == "__main__":
    main()
