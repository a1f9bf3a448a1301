"""`script/faults`: runs scenarios, prints the table, and says by its exit status whether every promise was kept."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import uvloop

from faults.brokers import OWN, Broker, OpenBroker, open_broker
from faults.installation import open_installation
from faults.report import table, write_page
from faults.run import Outcome, run
from faults.schedule import ONE_NODE, SCENARIOS, SEVERAL_NODES, schedule
from faults.server import CONFIG
from faults.workers import CLASSES, Workload

__all__ = ["main"]

_SHORT = ("mixed", "storm")
_SECONDS_PER_BROKER_KILL = 20.0


def main(arguments: list[str] | None = None, open_broker: OpenBroker = open_broker) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    options = _options(given)
    outcomes = uvloop.run(_all(options, open_broker))
    print(table(outcomes))
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"FAILED {outcome.scenario}: {problem}")
    if options.page:
        part = "one node" if options.nodes == 1 else options.broker.partition(":")[0]
        write_page(options.page, part, outcomes, _command(given))
    return int(any(outcome.problems for outcome in outcomes))


def _command(given: list[str]) -> str:
    """What to type for the same run again: without where its results went."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--keep")
    parser.add_argument("--page")
    return shlex.join(["script/faults", *parser.parse_known_args(given)[1]])


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/faults", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every scenario, 20 kills in each; with several nodes 10")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and of the clients' choices")
    parser.add_argument("--kills", type=int, help="in each scenario that has them (5, with --full 20; nodes: 2, 10)")
    parser.add_argument("--clients", type=int, default=60, help="half of them send, half receive")
    parser.add_argument("--rate", type=float, help="messages per second, all senders together (600; nodes: 200)")
    parser.add_argument("--seconds", type=float, help="of load in each scenario (20; with --full 60)")
    parser.add_argument("--retry", type=float, default=0.05, help="part of the answered messages that are sent again")
    parser.add_argument("--workers", type=int, default=1, help="processes of clients")
    parser.add_argument("--class", dest="classes", action="append", choices=CLASSES, help="only this delivery class")
    parser.add_argument("--nodes", type=int, default=1, help="servers that share the broker")
    parser.add_argument("--broker", help=f"by URL (embedded://), or one of our own: {', '.join(OWN)}")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the server")
    parser.add_argument("--keep", type=Path, help="a folder for records and logs, which then stay")
    parser.add_argument("--page", type=Path, help="write the table to this page, docs/failure-benchmark.md")
    options = parser.parse_args(arguments)
    several = options.nodes > 1
    options.broker = options.broker or ("rabbitmq" if several else "embedded://")
    if several and options.broker.startswith("embedded"):
        parser.error("several nodes share a broker: give --broker amqp://…, redis://… or one of our own")
    few, many = (2, 10) if several else (5, 20)
    options.kills = options.kills if options.kills is not None else many if options.full else few
    options.rate = options.rate or (200 if several else 600)
    options.scenario = options.scenario or list(SEVERAL_NODES if several else ONE_NODE if options.full else _SHORT)
    return options


def _seconds(scenario: str, options: argparse.Namespace) -> float:
    if options.seconds:
        return float(options.seconds)
    return _SECONDS_PER_BROKER_KILL * options.kills if scenario == "broker-kills" else 60.0 if options.full else 20.0


def _impossible(scenario: str, broker: Broker) -> str | None:
    if scenario == "broker-kills" and not broker.can_be_killed:
        return "only a broker of our own is killed"
    if scenario == "partitions" and not broker.places:
        return "no proxy can stand before this broker"
    if scenario == "frames" and not broker.url.startswith("amqp"):
        return "only RabbitMQ has AMQP's frames"
    return None


async def _all(options: argparse.Namespace, open_broker: OpenBroker) -> list[Outcome]:
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="smart-router-faults-") as temporary:
        for scenario in options.scenario:
            folder = Path(options.keep or temporary) / scenario
            folder.mkdir(parents=True)
            with open_broker(options.broker, folder / "broker") as broker:
                if reason := _impossible(scenario, broker):
                    print(f"== {scenario}: left out, {reason}")
                else:
                    outcomes.append(await _one(scenario, options, broker, folder))
    return outcomes


async def _one(scenario: str, options: argparse.Namespace, broker: Broker, folder: Path) -> Outcome:
    seconds = _seconds(scenario, options)
    steps = schedule(scenario, options.seed, seconds, options.kills)
    print(f"== {scenario}, seed {options.seed}")
    for step in steps:
        print(f"   {step}", flush=True)
    workload = Workload(
        options.clients,
        options.rate,
        options.seed,
        options.retry,
        options.workers,
        tuple(options.classes or CLASSES),
    )
    async with open_installation(options.nodes, broker, options.config, folder) as installation:
        return await run(scenario, steps, seconds, workload, installation, folder)


if __name__ == "__main__":
    sys.exit(main())
