"""What is measured: each variant is a server with its settings and the loads that are put on it."""

import fnmatch
from dataclasses import dataclass
from typing import Literal

__all__ = ["VARIANTS", "Load", "Server", "Variant", "choose"]

Server = Literal["smart-router", "node", "python-socketio"]

ACK = ("--ack",)
LATE_PONGS = ("--pong-delay", "30")


@dataclass(frozen=True)
class Load:
    """One run of the generator: its mode and further arguments."""

    mode: Literal["sat", "rate", "idle", "offline"]
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A row of the table. `config` names a file in benchmarks/app; `broker` overrules the broker given to the run.

    `compiled`: as `script/compile` has installed it; such a variant is measured only when it is named, as are those
    that need a server of somebody else (`named`).
    """

    name: str
    server: Server
    loads: tuple[Load, ...]
    config: str = ""
    broker: str | None = None
    quick: bool = False
    compiled: bool = False
    named: bool = False


def _traffic(*arguments: str) -> tuple[Load, ...]:
    return Load("sat", arguments), Load("rate", arguments)


_IDLE = Load("idle")
_MEMORY = "embedded://memory"

VARIANTS = (
    Variant("node", "node", (*_traffic(), _IDLE), quick=True),
    Variant("node-ack", "node", _traffic(*ACK)),
    Variant("python-socketio", "python-socketio", (*_traffic(), _IDLE), quick=True),
    Variant("python-socketio-ack", "python-socketio", _traffic(*ACK)),
    Variant("durable", "smart-router", _traffic(), "durable", quick=True),
    Variant("durable-ack", "smart-router", _traffic(*ACK), "durable", quick=True),
    Variant("durable-noelide", "smart-router", _traffic(*LATE_PONGS), "durable"),
    Variant("memory-sent", "smart-router", _traffic(), "memory-sent", _MEMORY, quick=True),
    Variant("memory-sent-ack", "smart-router", _traffic(*ACK), "memory-sent", _MEMORY),
    Variant("idle", "smart-router", (_IDLE,), "durable", quick=True),
    Variant("mailboxes-100", "smart-router", (Load("sat", ("--mailboxes", "100")),), "mailboxes"),
    Variant("mailboxes-100000", "smart-router", (Load("sat", ("--mailboxes", "100000")),), "mailboxes"),
    Variant("offline-100", "smart-router", (Load("offline", ("--mailboxes", "100")),), "mailboxes"),
    Variant("offline", "smart-router", (Load("offline", ("--mailboxes", "10000")),), "mailboxes"),
    Variant("offline-100000", "smart-router", (Load("offline", ("--mailboxes", "99900")),), "mailboxes"),
    Variant("durable-compiled", "smart-router", _traffic(), "durable", compiled=True),
    Variant("durable-ack-compiled", "smart-router", _traffic(*ACK), "durable", compiled=True),
    Variant("memory-sent-compiled", "smart-router", _traffic(), "memory-sent", _MEMORY, compiled=True),
    Variant("aio-pika", "smart-router", (Load("sat"),), "aio-pika", _MEMORY, named=True),
    Variant("aio-pika-ack", "smart-router", (Load("sat", ACK),), "aio-pika", _MEMORY, named=True),
    Variant("idle-compiled", "smart-router", (_IDLE,), "durable", compiled=True),
)


def choose(patterns: str, *, quick: bool) -> list[Variant]:
    """Return the variants that match one of the comma-separated patterns (`*` and `?` as in file names).

    Without a pattern: all that need nothing special, or the quick ones. Raises ValueError for one that matches none.
    """
    if not patterns:
        return [variant for variant in VARIANTS if variant.quick or not (quick or variant.compiled or variant.named)]
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not fnmatch.filter([variant.name for variant in VARIANTS], pattern):
            raise ValueError(f"no variant {pattern!r}; there are: {', '.join(variant.name for variant in VARIANTS)}")
    return [variant for variant in VARIANTS if any(fnmatch.fnmatch(variant.name, pattern) for pattern in wanted)]
