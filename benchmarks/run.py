"""`script/bench`: runs each variant in turn, several times over, and prints medians and ratios."""

import argparse
import datetime
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks import report, servers, tools
from benchmarks.goals import GOALS
from benchmarks.variants import VARIANTS, Load, Variant, choose

__all__ = ["main"]

_ROOT = tools.BENCHMARKS.parent
_RESULTS = tools.BENCHMARKS / "results.csv"
_GENERATOR_SECONDS = 300


class _LoadError(Exception):
    """The generator gave up; the text says why."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench", description=__doc__, epilog=f"variants: {', '.join(variant.name for variant in VARIANTS)}"
    )
    parser.add_argument("--repeat", "-r", type=int, help="repetitions, of which the median is taken (3; quick: 1)")
    parser.add_argument("--seconds", "-s", type=float, help="measured seconds of each load (4; quick: 1)")
    parser.add_argument("--connections", type=int, help="idle connections (5000; quick: 1000)")
    parser.add_argument("--only", default="", metavar="NAMES", help="only these variants: durable,node or 'durable*'")
    parser.add_argument("--broker", metavar="URL", help="for the variants of ours that do not name a broker")
    parser.add_argument("--quick", action="store_true", help="a look, not a claim: few variants, nothing is recorded")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick else 3)
    options.seconds = options.seconds or (1 if options.quick else 4)
    options.connections = options.connections or (1000 if options.quick else 5000)
    try:
        options.variants = choose(options.only, quick=options.quick)
    except ValueError as error:
        parser.error(str(error))
    return options


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _measure(variant: Variant, load: Load, generator: Path, options: argparse.Namespace) -> report.Result:
    with servers.running(variant, options.broker) as server:
        command = ["taskset", "-c", str(servers.cores()[1]), str(generator), load.mode, *load.arguments]
        command += ["--port", str(server.port), "--pid", str(server.pid), "--seconds", str(options.seconds)]
        command += ["--connections", str(options.connections)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_GENERATOR_SECONDS)
    if done.returncode:
        raise _LoadError(f"{variant.name}, {load.mode}: {done.stderr.strip()[-500:]}")
    result = json.loads(done.stdout)
    if result.pop("first_error", ""):
        _say(f"  {variant.name}, {load.mode}: {json.loads(done.stdout)['first_error']}")
    return {name: float(value) for name, value in result.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure_all(options: argparse.Namespace) -> tuple[list[report.Row], list[str]]:
    """Measure in rounds, each variant once a round, so that a slow minute of the machine falls on all alike."""
    tools.need("taskset", "it pins server and generator to a core each (Debian: util-linux)")
    generator = tools.build_generator()
    rows = {variant.name: report.Row(variant.name) for variant in options.variants}
    failures: dict[str, str] = {}
    for turn in range(options.repeat):
        for variant in options.variants:
            for load in variant.loads:
                if variant.name in failures:
                    continue
                try:
                    result = _measure(variant, load, generator, options)
                except (servers.ServerError, tools.ToolError, _LoadError, subprocess.TimeoutExpired) as error:
                    failures[variant.name] = str(error)
                    continue
                rows[variant.name].add(load.mode, result)
                figures = ("cpu_us_per_message", "messages_per_second", "p99_us", "kb_per_connection")
                shown = ", ".join(f"{name} {result[name]:g}" for name in figures if name in result)
                _say(f"  round {turn + 1}, {variant.name}, {load.mode}: {shown}")
    return [row for row in rows.values() if row.results and row.variant not in failures], list(failures.values())


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _revision() -> str:
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results.csv")
    return (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if changed else "")


def _about() -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "revision": _revision(),
        "command": shlex.join(["script/bench", *sys.argv[1:]]),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
    }


def _print_faults(rows: list[report.Row]) -> None:
    for row in rows:
        for name, count in report.faults(row).items():
            print(f"{row.variant}: {count} {name}: its figures are not comparable")
        if report.medians(row).get("generator_cpu_percent", 0) > 90:
            print(f"{row.variant}: the generator was the limit: messages/s is a lower bound")


def main() -> int:
    """Measure, print, record; exit status 1 if a variant could not be measured."""
    options = _arguments()
    if servers.cores()[0] == servers.cores()[1]:
        _say("one core only: server and generator share it, latencies and messages/s mean little")
    _allow_many_connections()
    try:
        rows, failures = _measure_all(options)
    except tools.ToolError as error:
        _say(str(error))
        return 1
    for part in (report.table(rows), report.ratios(rows), report.goals(rows, GOALS)):
        print(part, end="\n\n" if part else "")
    _print_faults(rows)
    if not options.quick:
        report.append_rows(_RESULTS, _about(), rows)
    for failure in failures:
        _say(f"failed: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
